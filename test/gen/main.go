// Package main writes the documents that a machine writes: doc/PORTS.md,
// CONFIG.md, COMMANDS.md, EVENTS.md and SPECS.md. With -check it writes nothing
// and exits 1 when one of them is stale. It runs in the project's top folder.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// A document and where its text comes from.
type document struct {
	name string
	text func(bin string) ([]byte, error)
}

func documents() []document {
	return []document{
		{"PORTS.md", doors},
		{"CONFIG.md", said("# Settings", "What `fernamt.toml` may say, with the defaults.", "config", "describe")},
		{"COMMANDS.md", said("# Commands", "What `fernamt` can be asked.", "help", "--format", "md")},
		{"EVENTS.md", func(string) ([]byte, error) { return events(".") }},
		{"SPECS.md", func(string) ([]byte, error) { return specs(".") }},
	}
}

func main() {
	check := flag.Bool("check", false, "write nothing; exit 1 when a document is stale")
	only := flag.String("only", "", "this document alone")
	flag.Parse()
	stale, err := generate(*check, *only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
	for _, name := range stale {
		fmt.Fprintf(os.Stderr, "doc/%s is stale: run make gen\n", name)
	}
	if len(stale) > 0 {
		os.Exit(1)
	}
}

func generate(check bool, only string) (stale []string, err error) {
	dir, err := os.MkdirTemp("", "gen")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "fernamt")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w\n%s", err, out)
	}
	for _, d := range documents() {
		if only != "" && only != d.name {
			continue
		}
		text, err := d.text(bin)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.name, err)
		}
		p := filepath.Join("doc", d.name)
		old, _ := os.ReadFile(p)
		switch {
		case bytes.Equal(old, text):
		case check:
			stale = append(stale, d.name)
		default:
			if err := os.WriteFile(p, text, 0o644); err != nil {
				return nil, err
			}
			fmt.Println("wrote", p)
		}
	}
	return stale, nil
}

const madeBy = "<!-- Written by `make gen`; changes here are lost. -->\n\n"

// doors is the table of doors, and what is answered to the table that the project
// began with.
func doors(bin string) ([]byte, error) {
	text, err := said("# Ports", "Every door of every role: what it listens on, and where it dials. `fernamt ports` prints those that\nan installation opens; `--lang de` prints them in German.", "ports", "--format", "md")(bin)
	if err != nil {
		return nil, err
	}
	seed, err := said("# The seed", "The 73 rows of the port table of Office Communications Server 2007 R2, and where Fernamt stands. A row\n*works* when the tests named beside it ran and passed against clients or servers that others wrote.", "ports", "--seed", "--format", "md")(bin)
	if err != nil {
		return nil, err
	}
	seed = bytes.TrimPrefix(seed, []byte(madeBy))
	return append(append(text, "\n#"...), seed...), nil
}

// said takes what the program itself prints. Text that is no Markdown goes into
// a block.
func said(title, about string, args ...string) func(string) ([]byte, error) {
	return func(bin string) ([]byte, error) {
		cmd := exec.Command(bin, args...)
		cmd.Dir = filepath.Dir(bin) // no settings file is near
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("fernamt %v: %w", args, err)
		}
		out = bytes.TrimSpace(out)
		if args[len(args)-1] != "md" {
			out = fmt.Appendf(nil, "```toml\n%s\n```", out)
		}
		if bytes.HasPrefix(out, []byte("# ")) { // brings its own title
			return fmt.Appendf(nil, "%s%s\n", madeBy, out), nil
		}
		return fmt.Appendf(nil, "%s# %s\n\n%s\n\n%s\n", madeBy, title[2:], about, out), nil
	}
}
