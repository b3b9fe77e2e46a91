package main

import (
	"fmt"
	"math"
	"runtime"
	"strconv"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"
)

// limits are what the processes of a container may have together; 0 is no limit.
type limits struct {
	memory, swap int64 // bytes; if memory is limited, swap is, be it to 0
	cpu          int64 // µs of CPU time in every 100 ms
	pids         int64 // processes and threads
}

// addFlags adds the flags of run that set l. A value that is not good is an error of the
// command line, before anything is set up.
func (l *limits) addFlags(flags *pflag.FlagSet) {
	flags.Func("mem", "", parseSize(&l.memory, "6m"))
	flags.Func("swap", "", parseSize(&l.swap, "1b"))
	flags.Func("cpus", "", func(s string) error {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || !(n >= 0.01 && n <= float64(runtime.NumCPU())) { // NaN is neither
			return fmt.Errorf("not a number from 0.01 to %d, the CPUs of this host", runtime.NumCPU())
		}
		l.cpu = int64(math.Round(n * 100_000))
		return nil
	})
	flags.Func("pids", "", func(s string) (err error) {
		l.pids, err = strconv.ParseInt(s, 10, 23)
		if err != nil || l.pids < 1 {
			return fmt.Errorf("not a whole number from 1 to 4194303")
		}
		return nil
	})
}

// parseSize returns a function that puts a size, with a unit as docker has them, into bytes.
// Without a unit it is one in MB; docker would take it for bytes.
func parseSize(bytes *int64, least string) func(string) error {
	return func(s string) error {
		if _, err := strconv.ParseFloat(s, 64); err == nil {
			s += "m"
		}
		size, err := units.RAMInBytes(s)
		if min, _ := units.RAMInBytes(least); err != nil || size < min {
			return fmt.Errorf("not a size of at least %s, like 64m", least)
		}
		*bytes = size
		return nil
	}
}
