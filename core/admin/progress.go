package admin

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
)

// Bar draws progress as one line that is written over, for a terminal.
type Bar struct {
	w     io.Writer
	mu    sync.Mutex
	width int // of what stands there
}

// NewBar draws on w.
func NewBar(w io.Writer) *Bar { return &Bar{w: w} }

// Show draws p.
func (b *Bar) Show(p Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	line := p.What + "  " + thousands(p.Done)
	if p.Total > 0 {
		part := min(p.Done*20/p.Total, 20)
		line += fmt.Sprintf(" of %s  [%s%s] %d%%", thousands(p.Total),
			strings.Repeat("=", int(part)), strings.Repeat(" ", int(20-part)), min(p.Done*100/p.Total, 100))
	}
	fmt.Fprintf(b.w, "\r%-*s", b.width, line)
	b.width = len(line)
}

// Clear wipes the line.
func (b *Bar) Clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.width > 0 {
		fmt.Fprintf(b.w, "\r%*s\r", b.width, "")
		b.width = 0
	}
}

// thousands sets a comma after every three digits.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
