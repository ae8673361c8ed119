package inspect

import (
	"bufio"
	"bytes"
	"encoding/json"
)

// An Answer is what a command gives. As JSON it is one document, of its fields.
type Answer interface {
	// Text writes the answer for people. That w fails shows when it is flushed.
	Text(w *bufio.Writer) error
}

// An answer that is not held in memory writes its document itself.
type jsonWriter interface {
	json(w *bufio.Writer) error
}

// WriteJSON writes an answer as one line of JSON. Where the answer fails, nothing
// is written.
func WriteJSON(w *bufio.Writer, a Answer) error {
	if own, ok := a.(jsonWriter); ok {
		if err := own.json(w); err != nil {
			return err
		}
		return w.WriteByte('\n')
	}
	if err := encode(w, a); err != nil {
		return err
	}
	return w.WriteByte('\n')
}

// encode writes a value as JSON without line breaks.
func encode(w *bufio.Writer, value any) error { return newEncoder(w).encode(value) }

// An encoder is a json.Encoder without its line breaks.
type encoder struct {
	to      *bufio.Writer
	buffer  bytes.Buffer
	encoder *json.Encoder
}

func newEncoder(w *bufio.Writer) *encoder {
	e := &encoder{to: w}
	e.encoder = json.NewEncoder(&e.buffer)
	e.encoder.SetEscapeHTML(false)
	return e
}

func (e *encoder) encode(value any) error {
	e.buffer.Reset()
	if err := e.encoder.Encode(value); err != nil {
		return err
	}
	_, err := e.to.Write(EscapeJSON(bytes.TrimSuffix(e.buffer.Bytes(), []byte("\n"))))
	return err
}

// rows is an answer of many rows, which are made while they are written.
type rows[T any] struct {
	// each calls yield for all rows. It may be called again.
	each func(yield func(T) error) error
	text func(w *bufio.Writer, row T)
	// tail, if not nil, ends the text.
	tail func(w *bufio.Writer)
}

func (r rows[T]) Text(w *bufio.Writer) error {
	err := r.each(func(row T) error {
		r.text(w, row)
		return nil
	})
	if err == nil && r.tail != nil {
		r.tail(w)
	}
	return err
}

// json goes over the rows first, so that no document is begun that cannot be
// ended.
func (r rows[T]) json(w *bufio.Writer) error {
	if err := r.each(func(T) error { return nil }); err != nil {
		return err
	}
	w.WriteByte('[')
	e := newEncoder(w)
	first := true
	err := r.each(func(row T) error {
		if !first {
			w.WriteByte(',')
		}
		first = false
		return e.encode(&row)
	})
	if err != nil {
		return err
	}
	return w.WriteByte(']')
}

// list is an answer whose rows are in memory.
func list[T any](all []T, text func(w *bufio.Writer, row T)) rows[T] {
	return rows[T]{text: text, each: func(yield func(T) error) error {
		for _, row := range all {
			if err := yield(row); err != nil {
				return err
			}
		}
		return nil
	}}
}
