package inspect

import (
	"errors"
	"os"
)

// A wholeFile is a file that gets its name when it is whole, over another that has it.
// It must be published or discarded.
type wholeFile struct {
	*os.File
	name string
	// link gives a file that has no name yet one that nobody has; nil for a file that is
	// written under the name partial.
	link func(name string) error
}

// partial is the file's name until it is whole, if it has one.
func (f *wholeFile) partial() string { return f.name + ".partial" }

// createPartial creates the file under a name of its own: a process that is killed
// leaves it there, and the next to write the same file takes it over.
func createPartial(name string) (*wholeFile, error) {
	f := &wholeFile{name: name}
	var err error
	f.File, err = os.Create(f.partial())
	return f, err
}

// publish closes the file and gives it its name.
func (f *wholeFile) publish() (err error) {
	if f.link != nil {
		// No call puts a file without a name in the place of another.
		if err = os.Remove(f.partial()); err == nil || errors.Is(err, os.ErrNotExist) {
			err = f.link(f.partial())
		}
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.partial(), f.name)
	}
	if err != nil {
		_ = os.Remove(f.partial())
	}
	return err
}

// discard leaves nothing of the file.
func (f *wholeFile) discard() {
	_ = f.Close()
	if f.link == nil {
		_ = os.Remove(f.partial())
	}
}
