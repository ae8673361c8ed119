package inspect

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// What a command fetches beyond manifest and bootstrap, for Command.Fetches.
const (
	fetchesNothing = "nothing"
	fetchesTails   = "the tails of blobs"
	fetchesData    = "data"
)

// A Command is a question. Help, errors about its use and the documentation come
// from the same fields.
type Command struct {
	Name string `json:"name"`
	// Arguments spells them, flags first, as a usage line does.
	Arguments string `json:"arguments"`
	Help      string `json:"help"`
	// Fetches says what may be fetched beyond manifest and bootstrap.
	Fetches string `json:"fetches"`

	least, most int // number of arguments
	flags       func(f *pflag.FlagSet, c *Call)
	run         func(context.Context, *Session, *Call) (Answer, error)
}

// Commands are all commands, in the order in which they are explained.
var Commands []Command

func init() { // help refers to the table itself
	Commands = []Command{
		{Name: "stats", Arguments: "[--layer N]", Help: "count files, chunks and what of each blob is in use", Fetches: fetchesNothing, flags: layerFlag, run: stats},
		{Name: "ls", Arguments: "[--layer N] [PATH]", Help: "list a directory", Fetches: fetchesNothing, most: 1, flags: layerFlag, run: ls},
		{Name: "cd", Arguments: "[PATH]", Help: "change the directory that paths begin in", Fetches: fetchesNothing, most: 1, run: cd},
		{Name: "pwd", Help: "print that directory", Fetches: fetchesNothing, run: pwd},
		{Name: "stat", Arguments: "[--layer N] PATH", Help: "print all of an inode: times, xattrs, other names, layer, chunks", Fetches: fetchesTails, least: 1, most: 1, flags: layerFlag, run: stat},
		{Name: "cat", Arguments: "[--layer N] [--range A-B] PATH", Help: "print a file, verified", Fetches: fetchesData, least: 1, most: 1, flags: catFlags, run: cat},
		{Name: "find", Arguments: "[--layer N] [--name PATTERN] [--type f,d,l,c,b,p,s] [--size [+-]N[kMG]] [PATH]", Help: "list what is below a directory", Fetches: fetchesNothing, most: 1, flags: findFlags, run: find},
		{Name: "blobs", Help: "list the blob table", Fetches: fetchesNothing, run: blobs},
		{Name: "layers", Arguments: "[--changes] [N]", Help: "list the layers, or what layer N adds, changes and deletes", Fetches: fetchesTails, most: 1, flags: layersFlags, run: layers},
		{Name: "prefetch", Help: "list the prefetch table", Fetches: fetchesNothing, run: prefetch},
		{Name: "chunk", Arguments: "[--uncompressed] BLOB OFFSET | DIGEST", Help: "find a chunk and the files that have it", Fetches: fetchesTails, least: 1, most: 2, flags: chunkFlags, run: chunk},
		{Name: "icheck", Arguments: "INODE", Help: "find an inode by its number, and say whether it stands on its own", Fetches: fetchesNothing, least: 1, most: 1, run: icheck},
		{Name: "toc", Arguments: "BLOB", Help: "list the table of contents of a blob", Fetches: fetchesTails, least: 1, most: 1, run: toc},
		{Name: "export", Arguments: "[--layer N] -o FILE PATH", Help: "write what is below a path as a tar archive, verified (-o - is standard output)", Fetches: fetchesData, least: 1, most: 1, flags: exportFlags, run: export},
		{Name: "manifest", Help: "print the image's manifest", Fetches: fetchesNothing, run: manifest},
		{Name: "config", Help: "print the image's configuration", Fetches: fetchesNothing, run: config},
		{Name: "help", Arguments: "[COMMAND]", Help: "list the commands", Fetches: fetchesNothing, most: 1, run: help},
		{Name: "exit", Help: "end the session", Fetches: fetchesNothing, run: nil},
	}
}

func layerFlag(f *pflag.FlagSet, c *Call) {
	f.IntVar(&c.layer, "layer", 0, "in the tree of this layer, not of the image")
}

func catFlags(f *pflag.FlagSet, c *Call) {
	layerFlag(f, c)
	f.StringVar(&c.bytes, "range", "", "bytes, as A-B, A- or -N")
}

func findFlags(f *pflag.FlagSet, c *Call) {
	layerFlag(f, c)
	f.StringVar(&c.name, "name", "", "pattern of names")
	f.StringVar(&c.types, "type", "", "letters of types")
	f.StringVar(&c.size, "size", "", "size in bytes")
}

func layersFlags(f *pflag.FlagSet, c *Call) {
	f.BoolVar(&c.changes, "changes", false, "count what each layer changes")
}

func chunkFlags(f *pflag.FlagSet, c *Call) {
	f.BoolVar(&c.uncompressed, "uncompressed", false, "the offset is one of the decompressed data")
}

func exportFlags(f *pflag.FlagSet, c *Call) {
	layerFlag(f, c)
	f.StringVarP(&c.output, "output", "o", "", "file to write")
}

// Lookup returns the command of a name, nil if there is none.
func Lookup(name string) *Command {
	for i := range Commands {
		if Commands[i].Name == name {
			return &Commands[i]
		}
	}
	return nil
}

// Usage is the command with its arguments.
func (c *Command) Usage() string { return strings.TrimSpace(c.Name + " " + c.Arguments) }

// Names lists the names of the commands.
func Names() []string {
	var names []string
	for i := range Commands {
		names = append(names, Commands[i].Name)
	}
	return names
}

// Summary lists the commands, a line each.
func Summary() string {
	var b strings.Builder
	for i := range Commands {
		fmt.Fprintf(&b, "  %-9s %s\n", Commands[i].Name, Commands[i].Help)
	}
	return b.String()
}

// help gives the commands, or one, as [Command] values.
func help(_ context.Context, _ *Session, c *Call) (Answer, error) {
	name := c.arg(0, "")
	if name == "" {
		return list(Commands, func(w *bufio.Writer, c Command) { fmt.Fprintf(w, "%-9s %s\n", c.Name, c.Help) }), nil
	}
	command := Lookup(name)
	if command == nil {
		return nil, unknown(name)
	}
	return list([]Command{*command}, func(w *bufio.Writer, c Command) {
		fmt.Fprintf(w, "%s\n  %s\n  fetches beyond manifest and bootstrap: %s\n", c.Usage(), c.Help, c.Fetches)
	}), nil
}

// A Directory is the session's current directory. It is no text after cd.
type Directory struct {
	Path
	silent bool
}

// Text implements [Answer].
func (d Directory) Text(w *bufio.Writer) error {
	if !d.silent {
		fmt.Fprintln(w, Escape(d.Path.Path))
	}
	return nil
}

// cd changes the current directory and gives it as a [Directory].
func cd(_ context.Context, s *Session, c *Call) (Answer, error) {
	name, inode, err := s.find(s.tree, c.arg(0, "/"), true)
	if err != nil {
		return nil, err
	}
	if !inode.IsDir() {
		return nil, c.wrong("%s is a %s, not a directory", absolute(name), typeOf(inode).name)
	}
	s.directory = name
	return Directory{newPath(name), true}, nil
}

// pwd gives the current [Directory].
func pwd(_ context.Context, s *Session, _ *Call) (Answer, error) {
	return Directory{Path: newPath(s.directory)}, nil
}
