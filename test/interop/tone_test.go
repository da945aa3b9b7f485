package interop

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"testing"
)

// sound is a recording: one channel, samples between -1 and 1.
type sound struct {
	rate    int
	samples []float64
}

// readWAV reads 16-bit PCM; of several channels it takes the first. A recording
// that is still being written, whose lengths are not filled in yet, is read to
// its present end.
func readWAV(file string) (sound, error) {
	b, err := os.ReadFile(file)
	if err != nil || len(b) < 44 || string(b[:4]) != "RIFF" {
		return sound{}, fmt.Errorf("%s: no recording: %w", file, err)
	}
	var s sound
	channels := 1
	for at := 12; at+8 <= len(b); {
		size := int(binary.LittleEndian.Uint32(b[at+4:]))
		body := b[at+8:]
		switch string(b[at : at+4]) {
		case "fmt ":
			channels = int(binary.LittleEndian.Uint16(body[2:]))
			s.rate = int(binary.LittleEndian.Uint32(body[4:]))
			if bits := binary.LittleEndian.Uint16(body[14:]); bits != 16 {
				return sound{}, fmt.Errorf("%s: %d bits", file, bits)
			}
		case "data":
			for i := 0; i+2*channels <= len(body); i += 2 * channels {
				s.samples = append(s.samples, float64(int16(binary.LittleEndian.Uint16(body[i:])))/32768)
			}
			return s, nil
		}
		at += 8 + size + size&1
	}
	return sound{}, fmt.Errorf("%s: no samples", file)
}

// share tells how much of the last half second's energy lies at a frequency: 1 for a
// pure tone, near 0 for another tone, speech or silence (Goertzel).
func (s sound) share(hz float64) float64 {
	last := s.samples[max(0, len(s.samples)-s.rate/2):]
	all := energy(last)
	if len(last) < s.rate/2 || all/float64(len(last)) < 1e-6 {
		return 0
	}
	w := 2 * math.Pi * hz / float64(s.rate)
	var re, im float64
	for i, x := range last {
		re += x * math.Cos(w*float64(i))
		im += x * math.Sin(w*float64(i))
	}
	return 2 * (re*re + im*im) / float64(len(last)) / all
}

func energy(x []float64) (e float64) {
	for _, v := range x {
		e += v * v
	}
	return e
}

// writeTone writes ten seconds of a tone as 16-bit PCM at 8 kHz.
func writeTone(t testing.TB, file string, hz float64) {
	t.Helper()
	const rate, n = 8000, 10 * 8000
	b := append([]byte("RIFF"), binary.LittleEndian.AppendUint32(nil, 36+2*n)...)
	b = append(b, "WAVEfmt "...)
	for _, v := range []uint32{16, 1 | 1<<16, rate, 2 * rate, 2 | 16<<16} { // PCM, one channel, 16 bits
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	b = append(b, "data"...)
	b = binary.LittleEndian.AppendUint32(b, 2*n)
	for i := range n {
		b = binary.LittleEndian.AppendUint16(b, uint16(int16(12000*math.Sin(2*math.Pi*hz*float64(i)/rate))))
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestShareTellsTones(t *testing.T) {
	s := sound{rate: 8000}
	for i := range 16000 {
		s.samples = append(s.samples, 0.4*math.Sin(2*math.Pi*440*float64(i)/8000))
	}
	if got := s.share(440); got < 0.95 {
		t.Errorf("440 Hz has a share of %.2f", got)
	}
	for _, hz := range []float64{300, 880, 1000} {
		if got := s.share(hz); got > 0.05 {
			t.Errorf("%v Hz has a share of %.2f in a tone of 440 Hz", hz, got)
		}
	}
	if got := (sound{rate: 8000, samples: make([]float64, 16000)}).share(440); got != 0 {
		t.Errorf("silence has a share of %.2f", got)
	}
}
