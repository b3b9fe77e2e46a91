package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// A progress tells how far a pull is: on a terminal with a bar for every layer, elsewhere in lines.
type progress struct {
	out  io.Writer
	bars *mpb.Progress // nil if there is no terminal
	all  []*bar
}

// progressTo returns one that writes to file, or nothing if quiet.
func progressTo(file *os.File, quiet bool) *progress {
	if quiet {
		return &progress{out: io.Discard}
	}
	p := &progress{out: file}
	if term.IsTerminal(int(file.Fd())) {
		p.bars = mpb.New(mpb.WithOutput(file), mpb.WithWidth(50))
	}
	return p
}

// line prints a line of its own, before the first bar or after close.
func (p *progress) line(text string) { fmt.Fprintln(p.out, text) }

// close leaves the bars as they are.
func (p *progress) close() {
	if p.bars == nil {
		return
	}
	for _, b := range p.all {
		b.mpb.SetTotal(-1, true)
	}
	p.bars.Wait()
}

// A bar is what is told of one layer.
type bar struct {
	p   *progress
	id  string // 12 hexadecimal digits
	mpb *mpb.Bar

	lock  sync.Mutex
	state string
}

// layer adds a layer.
func (p *progress) layer(id string) *bar {
	b := &bar{p: p, id: id}
	if p.bars == nil {
		return b
	}
	state := decor.Any(func(decor.Statistics) string {
		b.lock.Lock()
		defer b.lock.Unlock()
		return fmt.Sprintf("%s: %-17s ", id, b.state)
	})
	bytes := decor.OnComplete(decor.CountersKiloByte(" % .1f / % .1f"), "")
	p.all = append(p.all, b)
	b.mpb = p.bars.AddBar(0, mpb.PrependDecorators(state), mpb.AppendDecorators(bytes), mpb.BarFillerClearOnComplete())
	return b
}

// show tells what happens to the layer now.
func (b *bar) show(state string) {
	if b.mpb == nil {
		fmt.Fprintf(b.p.out, "%s: %s\n", b.id, state)
		return
	}
	b.lock.Lock()
	defer b.lock.Unlock()
	b.state = state
}

// count returns content, and shows how much of its size bytes has been read.
func (b *bar) count(content io.Reader, size int64) io.Reader {
	if b.mpb == nil {
		return content
	}
	b.mpb.SetCurrent(0)
	b.mpb.SetTotal(size, false)
	counted, err := b.mpb.ProxyReader(content)
	if err != nil { // the bars have ended
		return content
	}
	return counted
}
