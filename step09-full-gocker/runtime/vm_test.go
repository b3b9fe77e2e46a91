package runtime

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// A callData is what the kernel shows a filter of a system call: struct seccomp_data, seccomp(2).
type callData struct {
	number, arch uint32
	arguments    [6]uint64
}

// word returns the 32 bits at offset.
func (c callData) word(offset uint32) uint32 {
	switch {
	case offset == numberOffset:
		return c.number
	case offset == archOffset:
		return c.arch
	case offset >= argumentsOffset && offset < argumentsOffset+48 && offset%4 == 0:
		return uint32(c.arguments[(offset-argumentsOffset)/8] >> (offset % 8 * 8))
	}
	panic(fmt.Sprintf("load of offset %d", offset))
}

// run carries out filter as the kernel does, and returns its result: bpf(4).
func (c callData) run(t *testing.T, filter []unix.SockFilter) uint32 {
	t.Helper()
	var accumulator uint32
	for at := 0; at < len(filter); at++ {
		k := filter[at].K
		taken := false
		switch filter[at].Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			accumulator = c.word(k)
			continue
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			accumulator &= k
			continue
		case unix.BPF_RET | unix.BPF_K:
			return k
		case unix.BPF_JMP | unix.BPF_JA:
			at += int(k)
			continue
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			taken = accumulator == k
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			taken = accumulator > k
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			taken = accumulator >= k
		default:
			t.Fatalf("instruction %d: code %#x", at, filter[at].Code)
		}
		if taken {
			at += int(filter[at].Jt)
		} else {
			at += int(filter[at].Jf)
		}
	}
	t.Fatal("the filter ran over its end")
	return 0
}
