package sip

import "encoding/binary"

// Header is the number of a header name. HOther stands for each name without a number.
type Header uint8

// The headers that something here acts on.
const (
	HOther Header = iota
	HVia
	HFrom
	HTo
	HCallID
	HCSeq
	HContact
	HMaxForwards
	HRoute
	HRecordRoute
	HExpires
	HContentLength
	HContentType
	HAuthorization
	HProxyAuthorization
	HWWWAuthenticate
	HProxyAuthenticate
	HAuthenticationInfo
	HRequire
	HProxyRequire
	HSupported
	HUnsupported
	HPath
	HServiceRoute
	HPAssertedIdentity
	HPPreferredIdentity
	HEvent
	HSubscriptionState
	HReferTo
	HReferredBy
	HReplaces
	HSessionExpires
	HMinSE
	HMinExpires
	HRetryAfter
	HUserAgent
	HServer
	HAllow
	HAccept
	HAcceptEncoding
	HContentEncoding
	HRSeq
	HRAck
	HReason
	HDate
	HWarning
	HTimestamp
	HDiversion
	HHistoryInfo
	HPrivacy
	HJoin
	HFlowTimer
	HSubject
	HOrganization
	HSIPETag
	HSIPIfMatch
	HAllowEvents
	HAcceptLanguage
	HAcceptContact
	HRejectContact
	HRequestDisposition
	HAlertInfo
	HCallInfo
	HErrorInfo
	HContentDisposition
	HContentLanguage
	HInReplyTo
	HMIMEVersion
	HPriority
	HReplyTo
	HTargetDialog
	HIdentity
	HIdentityInfo
	HProxyAuthenticationInfo
	HMaxBreadth
	HPAssociatedURI
	HRemotePartyID
	headers
)

var headerNames = [headers]string{
	HVia: "Via", HFrom: "From", HTo: "To", HCallID: "Call-ID", HCSeq: "CSeq", HContact: "Contact",
	HMaxForwards: "Max-Forwards", HRoute: "Route", HRecordRoute: "Record-Route", HExpires: "Expires",
	HContentLength: "Content-Length", HContentType: "Content-Type", HAuthorization: "Authorization",
	HProxyAuthorization: "Proxy-Authorization", HWWWAuthenticate: "WWW-Authenticate",
	HProxyAuthenticate: "Proxy-Authenticate", HAuthenticationInfo: "Authentication-Info", HRequire: "Require",
	HProxyRequire: "Proxy-Require", HSupported: "Supported", HUnsupported: "Unsupported", HPath: "Path",
	HServiceRoute: "Service-Route", HPAssertedIdentity: "P-Asserted-Identity",
	HPPreferredIdentity: "P-Preferred-Identity", HEvent: "Event", HSubscriptionState: "Subscription-State",
	HReferTo: "Refer-To", HReferredBy: "Referred-By", HReplaces: "Replaces", HSessionExpires: "Session-Expires",
	HMinSE: "Min-SE", HMinExpires: "Min-Expires", HRetryAfter: "Retry-After", HUserAgent: "User-Agent",
	HServer: "Server", HAllow: "Allow", HAccept: "Accept", HAcceptEncoding: "Accept-Encoding",
	HContentEncoding: "Content-Encoding", HRSeq: "RSeq", HRAck: "RAck", HReason: "Reason", HDate: "Date",
	HWarning: "Warning", HTimestamp: "Timestamp", HDiversion: "Diversion", HHistoryInfo: "History-Info",
	HPrivacy: "Privacy", HJoin: "Join", HFlowTimer: "Flow-Timer", HSubject: "Subject", HOrganization: "Organization",
	HSIPETag: "SIP-ETag", HSIPIfMatch: "SIP-If-Match", HAllowEvents: "Allow-Events",
	HAcceptLanguage: "Accept-Language", HAcceptContact: "Accept-Contact", HRejectContact: "Reject-Contact",
	HRequestDisposition: "Request-Disposition", HAlertInfo: "Alert-Info", HCallInfo: "Call-Info",
	HErrorInfo: "Error-Info", HContentDisposition: "Content-Disposition", HContentLanguage: "Content-Language",
	HInReplyTo: "In-Reply-To", HMIMEVersion: "MIME-Version",
	HPriority: "Priority", HReplyTo: "Reply-To", HTargetDialog: "Target-Dialog",
	HIdentity: "Identity", HIdentityInfo: "Identity-Info", HProxyAuthenticationInfo: "Proxy-Authentication-Info",
	HMaxBreadth: "Max-Breadth", HPAssociatedURI: "P-Associated-URI", HRemotePartyID: "Remote-Party-ID",
}

// String gives the header's long name in its usual spelling.
func (h Header) String() string {
	if h == HOther || h >= headers {
		return "Other"
	}
	return headerNames[h]
}

// compact holds the one-letter names.
// RFC 3261 §7.3.3
var compact = [26]Header{
	0: HAcceptContact, 'b' - 'a': HReferredBy, 'c' - 'a': HContentType, 'd' - 'a': HRequestDisposition,
	'e' - 'a': HContentEncoding, 'f' - 'a': HFrom, 'i' - 'a': HCallID, 'j' - 'a': HRejectContact,
	'k' - 'a': HSupported, 'l' - 'a': HContentLength, 'm' - 'a': HContact, 'n' - 'a': HIdentityInfo,
	'o' - 'a': HEvent, 'r' - 'a': HReferTo, 's' - 'a': HSubject, 't' - 'a': HTo, 'u' - 'a': HAllowEvents,
	'v' - 'a': HVia, 'x' - 'a': HSessionExpires, 'y' - 'a': HIdentity,
}

// slots is an open-addressed table from the hash of a lower-case name to its number.
// names holds the lower-case names as words, for the comparison that follows.
var slots, names = buildSlots()

const (
	slotBits = 9
	maxName  = 32 // octets of the longest name that has a number, rounded up
)

// words is a name of up to 32 octets, first octet lowest, padded with zeros.
type words [maxName / 8]uint64

// below keeps the lowest n octets of a word.
var below = [9]uint64{0, 1<<8 - 1, 1<<16 - 1, 1<<24 - 1, 1<<32 - 1, 1<<40 - 1, 1<<48 - 1, 1<<56 - 1, 1<<64 - 1}

// lower sets bit 5 of each octet: of those in a token that turns capitals into small
// letters and moves nothing else onto a name's octet.
const lower = 0x2020202020202020

func slotOf(w uint64, n int) uint64 {
	return (w ^ uint64(n)<<59) * 0x9e3779b97f4a7c15 >> (64 - slotBits)
}

func buildSlots() (t [1 << slotBits]Header, names [headers]words) {
	for h := HOther + 1; h < headers; h++ {
		var b [maxName]byte
		n := copy(b[:], headerNames[h])
		for i := range n {
			b[i] |= 0x20
		}
		for i := range names[h] {
			names[h][i] = binary.LittleEndian.Uint64(b[8*i:])
		}
		i := slotOf(names[h][0], n)
		for t[i] != HOther {
			i = (i + 1) % uint64(len(t))
		}
		t[i] = h
	}
	return t, names
}

// HeaderOf gives the number of a header's name, long or compact, in any case.
func HeaderOf(name []byte) Header {
	if len(name) > maxName {
		return HOther
	}
	var b [maxName]byte
	copy(b[:], name)
	return headerAt(b[:], len(name))
}

// headerAt is HeaderOf for the first n octets of b, which is at least maxName long.
func headerAt(b []byte, n int) Header {
	if n <= 1 {
		if c := (b[0] | 0x20) - 'a'; n == 1 && c < 26 {
			return compact[c]
		}
		return HOther
	}
	w := (binary.LittleEndian.Uint64(b) | lower) & below[min(n, 8)]
	i := slotOf(w, n)
	for {
		h := slots[i]
		if h == HOther || w == names[h][0] && n == len(headerNames[h]) && (n <= 8 || sameRest(b, n, &names[h])) {
			return h
		}
		i = (i + 1) % uint64(len(slots))
	}
}

// sameRest compares what stands behind the first eight octets.
func sameRest(b []byte, n int, name *words) bool {
	for i := 1; 8*i < n; i++ {
		if (binary.LittleEndian.Uint64(b[8*i:])|lower)&below[min(n-8*i, 8)] != name[i] {
			return false
		}
	}
	return true
}

// mask is a set of headers.
type mask [2]uint64

func (s *mask) add(h Header)      { s[h>>6] |= 1 << (h & 63) }
func (s *mask) del(h Header)      { s[h>>6] &^= 1 << (h & 63) }
func (s *mask) has(h Header) bool { return s[h>>6]&(1<<(h&63)) != 0 }

func maskOf(hs ...Header) (s mask) {
	for _, h := range hs {
		s.add(h)
	}
	return s
}
