package inspect

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDocument is how much of a file one JSON document holds.
const maxDocument = 64 << 20

// A Content is bytes of a file, verified. Its text is these bytes as they are.
type Content struct {
	Path
	Size   int64 `json:"size"`   // of the file
	Offset int64 `json:"offset"` // of the first byte
	Length int64 `json:"length"`
	// Data is the bytes where they are UTF-8, else they are in DataBase64.
	Data       *string `json:"data,omitempty"`
	DataBase64 []byte  `json:"data_base64,omitempty"`

	copy func(io.Writer) error
}

// cat gives a [Content].
func cat(ctx context.Context, s *Session, c *Call) (Answer, error) {
	tree, err := s.treeOf(ctx, c.layer)
	if err != nil {
		return nil, err
	}
	name, inode, err := s.find(tree, c.args[0], true)
	if err != nil {
		return nil, err
	}
	if !inode.IsRegular() {
		return nil, c.wrong("%s is a %s, not a file", absolute(name), typeOf(inode).name)
	}
	from, to, err := byteRange(c, inode.Size)
	if err != nil {
		return nil, err
	}
	size := s.outputSize()
	if err := size.add(name, to-from); err != nil {
		return nil, err
	}
	chunks, err := inode.Chunks()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", absolute(name), err)
	}
	needed := blobSet{}
	needed.add(chunks, from, to)
	view, err := s.view(ctx, c.layer, tree, needed)
	if err != nil {
		return nil, err
	}
	return &Content{
		Path: newPath(name), Size: inode.Size, Offset: from, Length: to - from,
		copy: func(w io.Writer) error {
			only := func(yield func(source) error) error {
				return yield(source{path: name, inode: inode, from: from, to: to})
			}
			return copyAll(ctx, view, only, func(source) (io.Writer, error) { return w, nil })
		},
	}, nil
}

// byteRange reads --range as HTTP has ranges of bytes: A-B with both ends
// included, A- to the end, -N for the last N. What lies behind the end is left
// out. It returns the first byte and the one behind the last.
func byteRange(c *Call, size int64) (from, to int64, err error) {
	if c.bytes == "" {
		return 0, size, nil
	}
	first, last, ok := strings.Cut(c.bytes, "-")
	wrong := c.wrong("--range %q is no range such as 0-99, 100- or -100", c.bytes)
	number := func(text string, none int64) int64 {
		if text == "" {
			return none
		}
		n, parseErr := strconv.ParseUint(text, 10, 63)
		if parseErr != nil {
			err = wrong
		}
		return int64(n)
	}
	if !ok || first == "" && last == "" {
		return 0, 0, wrong
	}
	if first == "" {
		return max(0, size-number(last, 0)), size, err
	}
	from, to = number(first, 0), number(last, size-1)
	if err == nil && last != "" && to < from {
		err = wrong
	}
	from = min(from, size)
	return from, max(from, min(to, size-1)+1), err
}

// Text implements [Answer].
func (a *Content) Text(w *bufio.Writer) error { return a.copy(w) }

func (a *Content) json(w *bufio.Writer) error {
	if a.Length > maxDocument {
		return fmt.Errorf("%s: %d bytes are more than the %d of one JSON document: ask for parts of it with --range", a.Path.Path, a.Length, maxDocument)
	}
	var b bytes.Buffer
	if err := a.copy(&b); err != nil {
		return err
	}
	if utf8.Valid(b.Bytes()) {
		text := b.String()
		a.Data = &text
	} else {
		a.DataBase64 = b.Bytes()
	}
	return encode(w, a)
}
