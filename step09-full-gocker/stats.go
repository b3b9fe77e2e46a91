package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	units "github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gocker/step09-full-gocker/runtime"
)

// statsInterval is the time between two looks, from which the use of the CPUs is computed.
const statsInterval = time.Second

const statsTable = "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"

// statsCommand shows what containers use.
func statsCommand() *cobra.Command {
	var all, noStream, noTrunc bool
	var format string
	cmd := &cobra.Command{
		Use:               "stats [OPTIONS] [CONTAINER...]",
		Short:             "Show what containers use of CPU, memory and network, again and again",
		ValidArgsFunction: completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			if format == "" || format == "table" {
				format = statsTable
			}
			containers, err := findAll(args, all)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			before := takeSamples(containers)
			for {
				select {
				case <-cmd.Context().Done():
					return cmd.Context().Err()
				case <-time.After(statsInterval):
				}
				now := takeSamples(containers)
				var table bytes.Buffer
				context := formatter.Context{Output: &table, Format: formatter.Format(format)}
				if err := writeStats(context, containers, before, now, noTrunc); err != nil {
					return err
				}
				if noStream {
					_, err := out.Write(table.Bytes())
					return err
				}
				if err := redraw(out, table.String()); err != nil {
					return err
				}
				before = now
				if len(args) == 0 {
					if containers, err = findAll(nil, all); err != nil {
						return err
					}
				}
			}
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&all, "all", "a", false, "also those that do not run")
	flags.BoolVar(&noStream, "no-stream", false, "look once")
	flags.BoolVar(&noTrunc, "no-trunc", false, "whole IDs")
	flags.StringVar(&format, "format", "", "a Go `template`, or table, table TEMPLATE or json")
	return cmd
}

// findAll returns the containers that are called names; without names those that run, or all.
func findAll(names []string, all bool) ([]*container, error) {
	var found []*container
	for _, name := range names {
		c, err := findContainer(name)
		if err != nil {
			return nil, err
		}
		found = append(found, c)
	}
	if len(names) > 0 {
		return found, nil
	}
	containers, err := listContainers()
	for _, c := range containers {
		if all || c.running() {
			found = append(found, c)
		}
	}
	return found, err
}

// redraw shows text where the last one stood on the terminal: console_codes(4).
func redraw(out io.Writer, text string) error {
	const home, eraseLine, eraseRest = "\x1b[H", "\x1b[K", "\x1b[J"
	_, err := io.WriteString(out, home+strings.ReplaceAll(text, "\n", eraseLine+"\n")+eraseRest)
	return err
}

// A sample is what a container has used until a moment.
type sample struct {
	runtime.Stats
	taken          time.Time
	received, sent uint64 // bytes on its network
}

// takeSamples takes one of each container that runs, by their IDs.
func takeSamples(containers []*container) map[string]sample {
	samples := map[string]sample{}
	for _, c := range containers {
		r, err := loadRunning(c)
		if err != nil {
			continue
		}
		s := sample{taken: time.Now()}
		if s.Stats, err = r.Stats(); err != nil {
			continue // it is just ending
		}
		if !c.HostConfig.NetworkMode.IsHost() { // what goes over the host's network is not the container's
			s.received, s.sent = networkBytes(r.PID)
		}
		samples[c.ID] = s
	}
	return samples
}

// networkBytes returns what has come and gone over the interfaces, but for lo, of the network
// namespace of the process pid: proc_pid_net(5), dev. They are 0 if it has ended.
func networkBytes(pid int) (received, sent uint64) {
	content, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	for line := range strings.Lines(string(content)) {
		name, numbers, isInterface := strings.Cut(line, ":")
		fields := strings.Fields(numbers)
		if !isInterface || strings.TrimSpace(name) == "lo" || len(fields) < 9 {
			continue
		}
		in, _ := strconv.ParseUint(fields[0], 10, 64) // the kernel writes numbers
		out, _ := strconv.ParseUint(fields[8], 10, 64)
		received += in
		sent += out
	}
	return received, sent
}

// memoryOfHost is how many bytes the host has: sysinfo(2).
func memoryOfHost() uint64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}

// writeStats prints a line for each container, of which there are samples from before and now if it
// runs.
func writeStats(out formatter.Context, containers []*container, before, now map[string]sample, noTrunc bool) error {
	header := &statsLine{}
	header.Header = formatter.SubHeaderContext{
		"Container": "CONTAINER",
		"ID":        formatter.ContainerIDHeader,
		"Name":      formatter.NameHeader,
		"CPUPerc":   "CPU %",
		"MemUsage":  "MEM USAGE / LIMIT",
		"MemPerc":   "MEM %",
		"NetIO":     "NET I/O",
		"BlockIO":   "BLOCK I/O",
		"PIDs":      "PIDS",
	}
	total := memoryOfHost()
	return out.Write(header, func(format func(formatter.SubContext) error) error {
		for _, c := range containers {
			line := &statsLine{c: c, noTrunc: noTrunc}
			if s, ok := now[c.ID]; ok {
				line.sample = s
				if s.MemoryLimit == 0 || s.MemoryLimit > total {
					line.sample.MemoryLimit = total
				}
				if b, ok := before[c.ID]; ok && s.CPU > b.CPU {
					line.cpu = float64(s.CPU-b.CPU) / float64(s.taken.Sub(b.taken)) * 100
				}
			}
			if err := format(line); err != nil {
				return err
			}
		}
		return nil
	})
}

// A statsLine has a method for each word that a template may have.
type statsLine struct {
	formatter.HeaderContext
	c       *container
	sample  sample
	cpu     float64 // percent of one CPU
	noTrunc bool
}

func (l *statsLine) MarshalJSON() ([]byte, error) { return formatter.MarshalJSON(l) }

func (l *statsLine) Container() string { return l.ID() }
func (l *statsLine) Name() string      { return l.c.Name }

func (l *statsLine) ID() string {
	if l.noTrunc {
		return l.c.ID
	}
	return shortID(l.c.ID)
}

func (l *statsLine) CPUPerc() string { return fmt.Sprintf("%.2f%%", l.cpu) }
func (l *statsLine) PIDs() string    { return strconv.FormatUint(l.sample.PIDs, 10) }

func (l *statsLine) MemUsage() string {
	return units.BytesSize(float64(l.sample.MemoryUsage)) + " / " + units.BytesSize(float64(l.sample.MemoryLimit))
}

func (l *statsLine) MemPerc() string {
	if l.sample.MemoryLimit == 0 {
		return "0.00%"
	}
	return fmt.Sprintf("%.2f%%", float64(l.sample.MemoryUsage)/float64(l.sample.MemoryLimit)*100)
}

func (l *statsLine) NetIO() string { return bothSizes(l.sample.received, l.sample.sent) }

// BlockIO is not counted.
func (l *statsLine) BlockIO() string { return bothSizes(0, 0) }

func bothSizes(a, b uint64) string {
	return units.HumanSizeWithPrecision(float64(a), 3) + " / " + units.HumanSizeWithPrecision(float64(b), 3)
}
