package sip

import "strconv"

// Error is a failure with the answer that the peer should see.
type Error struct {
	Status  int      // what to answer: 400 413 416 505 513 ...
	Reason  string   // reason phrase; "" means ReasonOf(Status)
	Headers []string // further header lines of the answer, "Name: value" without CRLF
	Drop    bool     // never answer: a response, an ACK, or nowhere to send an answer to
}

// Error gives "400 Bad CSeq".
func (e *Error) Error() string {
	return strconv.Itoa(e.Status) + " " + e.Phrase()
}

// Phrase gives the reason phrase to send.
func (e *Error) Phrase() string {
	if e.Reason != "" {
		return e.Reason
	}
	return ReasonOf(e.Status)
}

// Status makes the error that a peer should see as a response. Headers are whole lines
// without CRLF ("Retry-After: 5").
func Status(code int, reason string, headers ...string) error {
	return &Error{Status: code, Reason: reason, Headers: headers}
}

// ReasonOf gives the usual reason phrase of a status code.
// RFC 3261 §21
func ReasonOf(code int) string {
	if code >= 0 && code < len(reasons) && reasons[code] != "" {
		return reasons[code]
	}
	switch {
	case code < 200:
		return "Progress"
	case code < 300:
		return "OK"
	case code < 400:
		return "Redirected"
	case code < 500:
		return "Request Failure"
	case code < 600:
		return "Server Failure"
	}
	return "Global Failure"
}

var reasons = [700]string{
	100: "Trying", 180: "Ringing", 181: "Call Is Being Forwarded", 182: "Queued", 183: "Session Progress",
	199: "Early Dialog Terminated",
	200: "OK", 202: "Accepted", 204: "No Notification",
	300: "Multiple Choices", 301: "Moved Permanently", 302: "Moved Temporarily", 305: "Use Proxy", 380: "Alternative Service",
	400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found",
	405: "Method Not Allowed", 406: "Not Acceptable", 407: "Proxy Authentication Required", 408: "Request Timeout",
	409: "Conflict", 410: "Gone", 412: "Conditional Request Failed", 413: "Request Entity Too Large", 414: "Request-URI Too Long",
	415: "Unsupported Media Type", 416: "Unsupported URI Scheme", 417: "Unknown Resource-Priority", 420: "Bad Extension",
	421: "Extension Required", 422: "Session Interval Too Small", 423: "Interval Too Brief", 424: "Bad Location Information",
	425: "Bad Alert Message", 428: "Use Identity Header", 429: "Provide Referrer Identity", 430: "Flow Failed",
	433: "Anonymity Disallowed", 436: "Bad Identity Info", 437: "Unsupported Credential", 438: "Invalid Identity Header",
	439: "First Hop Lacks Outbound Support", 440: "Max-Breadth Exceeded", 469: "Bad Info Package", 470: "Consent Needed",
	480: "Temporarily Unavailable", 481: "Call/Transaction Does Not Exist", 482: "Loop Detected", 483: "Too Many Hops",
	484: "Address Incomplete", 485: "Ambiguous", 486: "Busy Here", 487: "Request Terminated", 488: "Not Acceptable Here",
	489: "Bad Event", 491: "Request Pending", 493: "Undecipherable", 494: "Security Agreement Required",
	500: "Server Internal Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
	504: "Server Time-out", 505: "Version Not Supported", 513: "Message Too Large", 555: "Push Notification Service Not Supported",
	580: "Precondition Failure",
	600: "Busy Everywhere", 603: "Decline", 604: "Does Not Exist Anywhere", 606: "Not Acceptable", 607: "Unwanted", 608: "Rejected",
}

// What Parse and Check refuse. They are values that never change, so that a flood of bad
// messages makes no garbage.
var (
	errStart     = &Error{Status: 400, Reason: "Bad Request Line"}
	errVersion   = &Error{Status: 505}
	errURI       = &Error{Status: 400, Reason: "Bad Request-URI"}
	errURIHeader = &Error{Status: 400, Reason: "Headers in Request-URI"}
	errLine      = &Error{Status: 400, Reason: "Bad Header Line"}
	errEnd       = &Error{Status: 400, Reason: "Header Without End"}
	errBreak     = &Error{Status: 400, Reason: "Stray CR or LF"}
	errMany      = &Error{Status: 400, Reason: "Too Many Headers"}
	errManyVia   = &Error{Status: 400, Reason: "Too Many Vias"}
	errManyCont  = &Error{Status: 400, Reason: "Too Many Contacts"}
	errManyRoute = &Error{Status: 400, Reason: "Too Many Routes"}
	errLarge     = &Error{Status: 513}
	errEntity    = &Error{Status: 413}
	errLength    = &Error{Status: 400, Reason: "Bad Content-Length"}
	errNoLength  = &Error{Status: 400, Reason: "Missing Content-Length"}
	errShort     = &Error{Status: 400, Reason: "Body Shorter Than Content-Length"}
	errGarbage   = &Error{Status: 400, Reason: "Not SIP", Drop: true}
	errCode      = &Error{Status: 400, Reason: "Bad Status Line", Drop: true}

	errNoVia    = &Error{Status: 400, Reason: "Missing Via", Drop: true}
	errNoFrom   = &Error{Status: 400, Reason: "Missing From"}
	errNoTo     = &Error{Status: 400, Reason: "Missing To"}
	errNoCallID = &Error{Status: 400, Reason: "Missing Call-ID"}
	errNoCSeq   = &Error{Status: 400, Reason: "Missing CSeq"}
	errTwice    = &Error{Status: 400, Reason: "Repeated Header"}
	errVia      = &Error{Status: 400, Reason: "Bad Via"}
	errBranch   = &Error{Status: 400, Reason: "Bad Branch"}
	errFrom     = &Error{Status: 400, Reason: "Bad From"}
	errTo       = &Error{Status: 400, Reason: "Bad To"}
	errContact  = &Error{Status: 400, Reason: "Bad Contact"}
	errRoute    = &Error{Status: 400, Reason: "Bad Route"}
	errCallID   = &Error{Status: 400, Reason: "Bad Call-ID"}
	errCSeq     = &Error{Status: 400, Reason: "Bad CSeq"}
	errMismatch = &Error{Status: 400, Reason: "CSeq Method Differs"}
	errHops     = &Error{Status: 400, Reason: "Bad Max-Forwards"}
	errExpires  = &Error{Status: 400, Reason: "Bad Expires"}
	errDate     = &Error{Status: 400, Reason: "Bad Date"}
	errAddress  = &Error{Status: 400, Reason: "Bad Address"}
	errAbsent   = &Error{Status: 400, Reason: "Missing Header"}
)
