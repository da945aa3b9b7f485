package admin

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// frame is one unit of the protocol: its length in four octets, most significant
// first, then JSON. The caller sends one frame with Argv, then its input in frames
// with In and one with EOF. The server sends Out, Err and Progress in any order and
// Exit last. A caller that goes away has its command cancelled.
type frame struct {
	Argv     []string  `json:"argv,omitempty"`
	In       []byte    `json:"in,omitempty"`
	EOF      bool      `json:"eof,omitempty"`
	Out      []byte    `json:"out,omitempty"`
	Err      []byte    `json:"err,omitempty"`
	Progress *Progress `json:"progress,omitempty"`
	Exit     *int      `json:"exit,omitempty"`
	Message  string    `json:"message,omitempty"` // with Exit: what went wrong
}

// Progress is how far a long piece of work has come; Total 0: nobody knows.
type Progress struct {
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
	What  string `json:"what"`
}

const (
	maxFrame = 1 << 20
	chunk    = 32 << 10
)

func writeFrame(w io.Writer, f frame) error {
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if len(b) > maxFrame {
		return fmt.Errorf("a frame of %d octets is too large", len(b))
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

func readFrame(r io.Reader) (frame, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return frame{}, fmt.Errorf("a frame of %d octets is too large", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return frame{}, err
	}
	var f frame
	return f, json.Unmarshal(b, &f)
}

// output sends frames of one connection, whole ones.
type output struct {
	mu sync.Mutex
	w  io.Writer
}

func (o *output) send(f frame) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return writeFrame(o.w, f)
}

// stream is standard output or standard error of a command.
type stream struct {
	o   *output
	err bool
}

func (s stream) Write(b []byte) (int, error) {
	for off := 0; off < len(b); {
		part := b[off:min(off+chunk, len(b))]
		f := frame{Out: part}
		if s.err {
			f = frame{Err: part}
		}
		if err := s.o.send(f); err != nil {
			return off, err
		}
		off += len(part)
	}
	return len(b), nil
}

// Answer serves one call on conn: it reads argv and input, has the table run it, and
// sends what comes of it. call carries what the command works on.
func (t *Table) Answer(ctx context.Context, conn io.ReadWriter, call *Call) error {
	r := bufio.NewReader(conn)
	first, err := readFrame(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, feed := io.Pipe()
	defer in.Close()
	go func() { // ends when the caller goes away, or with conn
		defer cancel()
		for {
			f, err := readFrame(r)
			if err != nil {
				feed.CloseWithError(io.ErrUnexpectedEOF)
				return
			}
			if len(f.In) > 0 {
				_, _ = feed.Write(f.In) // an error says that nobody reads any more
			}
			if f.EOF {
				feed.Close()
			}
		}
	}()
	o := &output{w: conn}
	call.In, call.Out, call.Err = in, stream{o, false}, stream{o, true}
	call.Report = func(done, total int64, what string) {
		_ = o.send(frame{Progress: &Progress{done, total, what}})
	}
	err = t.runSafe(ctx, first.Argv, call)
	status := Status(err)
	last := frame{Exit: &status}
	if err != nil {
		last.Message = err.Error()
	}
	return o.send(last)
}

// runSafe keeps a command's panic from taking the server with it.
func (t *Table) runSafe(ctx context.Context, argv []string, call *Call) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: broke inside the server: %v", call.Command, p)
		}
	}()
	return t.Run(ctx, argv, call)
}

// Request is a command for a running server.
type Request struct {
	Argv   []string
	In     io.Reader // nil: none
	Out    io.Writer
	Err    io.Writer
	Report func(Progress) // may be nil
}

// Ask sends a request over conn and relays what comes back. The error carries the
// server's exit status and message.
func Ask(conn io.ReadWriter, q Request) error {
	if err := writeFrame(conn, frame{Argv: q.Argv}); err != nil {
		return err
	}
	o := &output{w: conn}
	go feedInput(o, q.In) // ends with the input or the connection
	r := bufio.NewReader(conn)
	for {
		f, err := readFrame(r)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("the server ended before it had answered")
		}
		if err != nil {
			return err
		}
		switch {
		case len(f.Out) > 0:
			_, err = q.Out.Write(f.Out)
		case len(f.Err) > 0:
			_, err = q.Err.Write(f.Err)
		case f.Progress != nil && q.Report != nil:
			q.Report(*f.Progress)
		case f.Exit != nil && *f.Exit == 0:
			return nil
		case f.Exit != nil && f.Message == "":
			return &Exit{Status: *f.Exit}
		case f.Exit != nil:
			return &Exit{Status: *f.Exit, Err: errors.New(f.Message)}
		}
		if err != nil {
			return err
		}
	}
}

func feedInput(o *output, in io.Reader) {
	if in != nil {
		b := make([]byte, chunk)
		for {
			n, err := in.Read(b)
			if n > 0 && o.send(frame{In: b[:n]}) != nil {
				return
			}
			if err != nil {
				break
			}
		}
	}
	_ = o.send(frame{EOF: true})
}
