package main

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"
)

func historyCommand() *cobra.Command {
	var human, whole, quiet bool
	var format string
	command := &cobra.Command{
		Use:   "history [OPTIONS] IMAGE",
		Short: "Show how an image was made",
		Args:  cobra.ExactArgs(1),
		RunE: failsWith1(func(_ context.Context, args []string) error {
			img, err := findImage(args[0])
			if err != nil {
				return err
			}
			lines, err := img.history(human, whole)
			if err != nil {
				return err
			}
			to := formatter.Context{Output: os.Stdout, Format: historyFormat(format, quiet)}
			return to.Write(historyLine{}, func(write func(formatter.SubContext) error) error {
				for _, line := range lines {
					if err := write(line); err != nil {
						return err
					}
				}
				return nil
			})
		}),
	}
	flags := command.Flags()
	flags.BoolVarP(&human, "human", "H", true, "print sizes and dates for humans")
	flags.BoolVar(&whole, "no-trunc", false, "print all of it")
	flags.BoolVarP(&quiet, "quiet", "q", false, "print IDs only")
	flags.StringVar(&format, "format", "", `"table", "json" or a Go template`)
	return command
}

func historyFormat(format string, quiet bool) formatter.Format {
	switch {
	case format != "" && format != formatter.TableFormatKey:
		return formatter.Format(format)
	case quiet:
		return formatter.DefaultQuietFormat
	}
	return "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
}

// A historyLine is a line of history. Its fields are those of --format, docker's.
type historyLine struct {
	Comment, CreatedAt, CreatedBy, CreatedSince, ID, Size string
}

// FullHeader is what a table has above: formatter.SubContext.
func (historyLine) FullHeader() any {
	return historyLine{
		ID:           "IMAGE",
		CreatedAt:    formatter.CreatedAtHeader,
		CreatedSince: formatter.CreatedSinceHeader,
		CreatedBy:    "CREATED BY",
		Size:         formatter.SizeHeader,
		Comment:      "COMMENT",
	}
}

// history returns what is known of how img was made, the last step first. Only that one is an
// image here.
func (img *image) history(human, whole bool) (lines []historyLine, err error) {
	dirs := img.layerDirs()
	for i, entry := range img.History {
		line := historyLine{ID: "<missing>", Comment: entry.Comment, CreatedSince: "N/A"}
		var size int64 // bytes
		if !entry.EmptyLayer && len(dirs) > 0 {
			description, err := readLayer(dirs[0])
			if err != nil {
				return nil, err
			}
			size = description.Size
			dirs = dirs[1:]
		}
		line.Size = strconv.FormatInt(size, 10)
		if human {
			line.Size = units.HumanSizeWithPrecision(float64(size), 3)
		}
		if entry.Created != nil {
			line.CreatedAt = entry.Created.Local().Format(time.RFC3339)
			if entry.Created.Year() >= 2000 { // or it was made to be reproducible
				line.CreatedSince = units.HumanDuration(time.Since(*entry.Created)) + " ago"
			}
		}
		if !human {
			line.CreatedSince = line.CreatedAt
		}
		if i == len(img.History)-1 {
			line.ID = img.ID
		}
		line.CreatedBy = strings.ReplaceAll(entry.CreatedBy, "\t", " ")
		if !whole {
			line.ID = formatter.TruncateID(line.ID)
			line.CreatedBy = formatter.Ellipsis(line.CreatedBy, 45)
		}
		lines = append(lines, line)
	}
	slices.Reverse(lines)
	return lines, nil
}
