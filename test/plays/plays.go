// Package plays holds the plays: the files named *.txt in this folder. Package play says what
// they are.
package plays

import "embed"

// Files are the plays, built into the binary so that `fernamt play` has them.
//
//go:embed *.txt
var Files embed.FS
