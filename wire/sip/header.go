package sip

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
	HContentTransferEncoding
	HInReplyTo
	HMIMEVersion
	HPriority
	HReplyTo
	HReferSub
	HTargetDialog
	HIdentity
	HIdentityInfo
	HProxyAuthenticationInfo
	HRecvInfo
	HInfoPackage
	HMaxBreadth
	HAnswerMode
	HPEarlyMedia
	HPAccessNetworkInfo
	HPChargingVector
	HPCalledPartyID
	HPAssociatedURI
	HRemotePartyID
	HSuppressIfMatch
	HSecurityClient
	HSecurityServer
	HSecurityVerify
	HUserToUser
	HGeolocation
	HContentID
	HSessionID
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
	HContentTransferEncoding: "Content-Transfer-Encoding", HInReplyTo: "In-Reply-To", HMIMEVersion: "MIME-Version",
	HPriority: "Priority", HReplyTo: "Reply-To", HReferSub: "Refer-Sub", HTargetDialog: "Target-Dialog",
	HIdentity: "Identity", HIdentityInfo: "Identity-Info", HProxyAuthenticationInfo: "Proxy-Authentication-Info",
	HRecvInfo: "Recv-Info", HInfoPackage: "Info-Package", HMaxBreadth: "Max-Breadth", HAnswerMode: "Answer-Mode",
	HPEarlyMedia: "P-Early-Media", HPAccessNetworkInfo: "P-Access-Network-Info", HPChargingVector: "P-Charging-Vector",
	HPCalledPartyID: "P-Called-Party-ID", HPAssociatedURI: "P-Associated-URI", HRemotePartyID: "Remote-Party-ID",
	HSuppressIfMatch: "Suppress-If-Match", HSecurityClient: "Security-Client", HSecurityServer: "Security-Server",
	HSecurityVerify: "Security-Verify", HUserToUser: "User-to-User", HGeolocation: "Geolocation",
	HContentID: "Content-ID", HSessionID: "Session-ID",
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
	'a' - 'a': HAcceptContact, 'b' - 'a': HReferredBy, 'c' - 'a': HContentType, 'd' - 'a': HRequestDisposition,
	'e' - 'a': HContentEncoding, 'f' - 'a': HFrom, 'i' - 'a': HCallID, 'j' - 'a': HRejectContact,
	'k' - 'a': HSupported, 'l' - 'a': HContentLength, 'm' - 'a': HContact, 'n' - 'a': HIdentityInfo,
	'o' - 'a': HEvent, 'r' - 'a': HReferTo, 's' - 'a': HSubject, 't' - 'a': HTo, 'u' - 'a': HAllowEvents,
	'v' - 'a': HVia, 'x' - 'a': HSessionExpires, 'y' - 'a': HIdentity,
}

// slots is an open-addressed table from the hash of a lower-case name to its number.
// names holds the lower-case names for the comparison that follows.
var slots, lowerNames = buildSlots()

const slotCount = 512

func slotOf(first, middle, last byte, n int) uint {
	return (uint(n)*37 ^ uint(first)*5 ^ uint(middle)*19 ^ uint(last)<<3) % slotCount
}

func buildSlots() (t [slotCount]Header, lower [headers]string) {
	for h := HOther + 1; h < headers; h++ {
		b := []byte(headerNames[h])
		for i := range b {
			b[i] = lowerByte(b[i])
		}
		lower[h] = string(b)
		i := slotOf(b[0], b[len(b)/2]|0x20, b[len(b)-1], len(b))
		for t[i] != HOther {
			i = (i + 1) % slotCount
		}
		t[i] = h
	}
	return t, lower
}

// HeaderOf gives the number of a header's name, long or compact, in any case.
func HeaderOf(name []byte) Header {
	n := len(name)
	if n <= 1 {
		if n == 1 && name[0]|0x20 >= 'a' && name[0]|0x20 <= 'z' {
			return compact[name[0]|0x20-'a']
		}
		return HOther
	}
	i := slotOf(name[0]|0x20, name[n/2]|0x20, name[n-1]|0x20, n)
	for {
		h := slots[i]
		if h == HOther || equalLower(name, lowerNames[h]) {
			return h
		}
		i = (i + 1) % slotCount
	}
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
