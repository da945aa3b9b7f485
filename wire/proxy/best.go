package proxy

import (
	"slices"

	"fernamt/wire/sip"
)

// best gathers final responses and knows which one goes upstream (RFC 3261 §16.7
// step 6).
type best struct {
	code  int
	m     *sip.Message // own copy; nil when the code is ours
	asked [][2][]byte  // challenges of every 401 and 407: header name, value
}

// rank orders final responses: 6xx before all, then the lowest class, and in 4xx
// those that the caller can act on; a timeout last but one, 503 last in its class.
func rank(code int) int {
	switch {
	case code >= 600:
		return 0
	case code == 401, code == 407, code == 415, code == 420, code == 484:
		return code/100*1000 + 1
	case code == 408, code == 503:
		return code/100*1000 + 900
	case code == 487:
		return code/100*1000 + 950
	}
	return code/100*1000 + 100
}

func (b *best) take(code int, m *sip.Message) {
	if m != nil && (code == 401 || code == 407) {
		for _, h := range [...]sip.Header{sip.HWWWAuthenticate, sip.HProxyAuthenticate} {
			for v := range m.Values(h) {
				b.asked = append(b.asked, [2][]byte{[]byte(h.String()), slices.Clone(v)})
			}
		}
	}
	if b.code != 0 && rank(b.code) <= rank(code) {
		return
	}
	b.code, b.m = code, nil
	if m != nil {
		b.m = m.Clone()
		b.m.PopFirst(sip.HVia)
	}
}

// upstream is the status to send: a 503 speaks of one hop, not of us (§16.7 step 6).
func (b *best) upstream() int {
	switch b.code {
	case 0:
		return 480
	case 503:
		return 500
	}
	return b.code
}

// challenge puts the challenges of all branches into the 401 or 407 that is sent
// (RFC 3261 §16.7 step 7).
func (b *best) challenge(m *sip.Message) {
	if b.code != 401 && b.code != 407 {
		return
	}
	m.Remove(sip.HWWWAuthenticate)
	m.Remove(sip.HProxyAuthenticate)
	for _, a := range b.asked {
		h := sip.HWWWAuthenticate
		if string(a[0]) == sip.HProxyAuthenticate.String() {
			h = sip.HProxyAuthenticate
		}
		m.Add(h, a[1])
	}
}
