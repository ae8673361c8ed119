package inspect

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// maxLine is the longest command line that is read: a path has 4096 bytes, and
// four times as many where all are escaped.
const maxLine = 64 << 10

// scanner is [Lines] of a stream.
type scanner struct{ *bufio.Scanner }

// NewLines gives the lines of a stream.
func NewLines(r io.Reader) Lines {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 4<<10), maxLine)
	return scanner{s}
}

func (s scanner) ReadLine() (string, error) {
	if s.Scan() {
		return s.Text(), nil
	}
	if err := s.Err(); err != nil {
		return "", err
	}
	return "", io.EOF
}

// IsTerminal says whether all streams are terminals.
func IsTerminal(streams ...any) bool {
	for _, stream := range streams {
		file, ok := stream.(*os.File)
		if !ok || !term.IsTerminal(int(file.Fd())) {
			return false
		}
	}
	return true
}

// A Prompt is [Lines] that a person types, with history and completion. It must be
// closed.
type Prompt struct {
	session  *Session
	in       *os.File
	terminal *term.Terminal

	mu  sync.Mutex
	was *term.State // of the terminal, while a line is read
}

// NewPrompt prompts on a terminal.
func NewPrompt(s *Session, in, out *os.File) *Prompt {
	p := &Prompt{session: s, in: in}
	p.terminal = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{in, out}, "")
	p.terminal.AutoCompleteCallback = func(line string, at int, key rune) (string, int, bool) {
		if key != '\t' {
			return "", 0, false
		}
		head := s.complete(line[:at])
		return head + line[at:], len(head), true
	}
	return p
}

// ReadLine implements [Lines]. The terminal is as it was while a command runs, so
// that it can be interrupted. Ctrl-C and Ctrl-D on an empty line end the session.
func (p *Prompt) ReadLine() (line string, err error) {
	if width, height, err := term.GetSize(int(p.in.Fd())); err == nil && width > 0 {
		_ = p.terminal.SetSize(width, height) // only the looks depend on it
	}
	if err := p.raw(); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	p.terminal.SetPrompt("nydus:" + Escape(absolute(p.session.directory)) + "> ")
	line, err = p.terminal.ReadLine()
	switch {
	case errors.Is(err, io.EOF):
		_, _ = p.terminal.Write([]byte("\n"))
	case errors.Is(err, term.ErrPasteIndicator):
		err = nil
	}
	return line, err
}

// raw lets the terminal give each key as it is typed.
func (p *Prompt) raw() (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.was, err = term.MakeRaw(int(p.in.Fd()))
	return err
}

// Close leaves the terminal as it was, also where a line is still being read.
func (p *Prompt) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.was == nil {
		return nil
	}
	was := p.was
	p.was = nil
	return term.Restore(int(p.in.Fd()), was)
}

// complete adds what the beginning of a line can only go on with: the rest of a
// command's name, or of a path.
func (s *Session) complete(head string) string {
	cut := strings.LastIndexByte(head, ' ') + 1
	last := head[cut:]
	var candidates []string
	if cut == 0 {
		for i := range Commands {
			candidates = append(candidates, Commands[i].Name+" ")
		}
	} else if strings.ContainsAny(last, `'"\`) {
		return head
	} else {
		candidates = s.completions(last)
	}
	common, found := "", false
	for _, candidate := range candidates {
		if !strings.HasPrefix(candidate, last) {
			continue
		}
		if !found {
			common, found = candidate, true
			continue
		}
		n := 0
		for n < min(len(common), len(candidate)) && common[n] == candidate[n] {
			n++
		}
		common = common[:n]
	}
	if !found {
		return head
	}
	return head[:cut] + strings.ToValidUTF8(common, "")
}

// completions lists the paths that begin as a word does, as they are to be typed.
func (s *Session) completions(word string) []string {
	folder := word[:strings.LastIndexByte(word, '/')+1]
	_, inode, err := s.find(s.tree, "./"+folder, true)
	if strings.HasPrefix(folder, "/") {
		_, inode, err = s.find(s.tree, folder, true)
	}
	if err != nil || !inode.IsDir() {
		return nil
	}
	entries, err := inode.Entries()
	if err != nil {
		return nil
	}
	var paths []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name, word[len(folder):]) {
			continue
		}
		name := folder + quoted(e.Name)
		if e.Inode.IsDir() {
			name += "/"
		} else {
			name += " "
		}
		paths = append(paths, name)
	}
	return paths
}

// quoted spells a name so that [Words] takes it for one word.
func quoted(name string) string {
	return strings.NewReplacer(" ", `\ `, "'", `\'`, `"`, `\"`).Replace(Escape(name))
}
