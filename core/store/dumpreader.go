package store

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
)

// dumpReader reads a dump line by line and checks its sum at the end.
type dumpReader struct {
	f    *os.File
	zip  *gzip.Reader
	in   *bufio.Reader
	sum  hash.Hash
	head dumpHead
	rows int64
}

var errDamaged = errors.New("the file is damaged or cut off: take another backup")

func openDump(path string) (*dumpReader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &dumpReader{f: f, sum: sha256.New()}
	if r.zip, err = gzip.NewReader(f); err == nil {
		r.in = bufio.NewReaderSize(r.zip, 1<<16)
		var line []byte
		if line, err = r.in.ReadBytes('\n'); err == nil {
			r.sum.Write(line)
			err = json.Unmarshal(line, &r.head)
		}
	}
	switch {
	case err != nil || r.head.Fernamt != "dump":
		err = errors.New("this is no backup made by fernamt")
	case r.head.Format > dumpFormat:
		err = fmt.Errorf("the backup has format %d and this fernamt knows up to %d: use the newer fernamt", r.head.Format, dumpFormat)
	}
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// next gives a line without its end; nil after the last, when count and sum are right.
func (r *dumpReader) next() ([]byte, error) {
	line, err := r.in.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", errDamaged, err)
	}
	if line[0] == '[' {
		r.rows++
	} else {
		var l dumpLine
		if err := json.Unmarshal(line, &l); err != nil {
			return nil, fmt.Errorf("%w (%w)", errDamaged, err)
		}
		if l.End {
			if l.Rows != r.rows || l.SHA256 != hex.EncodeToString(r.sum.Sum(nil)) {
				return nil, fmt.Errorf("%w (its sum is wrong)", errDamaged)
			}
			// What gzip knows of its own end is read too.
			if _, err := r.in.ReadByte(); !errors.Is(err, io.EOF) {
				return nil, errDamaged
			}
			return nil, nil
		}
	}
	r.sum.Write(line)
	return bytes.TrimSuffix(line, []byte("\n")), nil
}

func (r *dumpReader) close() {
	if r.zip != nil {
		_ = r.zip.Close()
	}
	_ = r.f.Close()
}
