package nydusmount

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// logTail is how many bytes of nydusd's log an error shows at most.
const logTail = 1500

// logRead is how many bytes of the log are read at most, from its end.
const logRead = 128 << 10

var (
	// colours are the escape sequences that nydusd's log has also in a file.
	colours = regexp.MustCompile("\x1b\\[[0-9;]*m")
	// queries hold the signatures of the addresses that registries redirect to.
	queries = regexp.MustCompile(`query: Some\("[^"]*"\)|\?[^\s"')]+`)
	// tokens are those that nydusd got for itself: a registry may quote them.
	tokens = regexp.MustCompile(`(?i)(bearer\s+)[^\s"',]+|eyJ[\w-]+\.[\w-]+\.[\w-]*`)
	// noise comes with each error: where nydusd's source reports it, with a stack
	// in newer versions, and how to see more.
	noise = regexp.MustCompile(`(?m)^[ \t]+(at |note: |\d+: ).*\n?`)
)

// readLog returns the end of the log in a run folder, without credentials.
func readLog(folder string, secrets []string) string {
	file, err := os.Open(filepath.Join(folder, logFile))
	if err != nil {
		return ""
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return ""
	}
	// It may be long: a registry's answers are in there.
	from := max(0, info.Size()-logRead)
	text, err := io.ReadAll(io.NewSectionReader(file, from, logRead))
	if err != nil {
		return ""
	}
	if from > 0 {
		// Of a secret that is cut the rest would show.
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	said := cleanLog(string(text), secrets)
	// After the secrets are out: of one that is cut the rest would show.
	if len(said) > logTail {
		said = "…" + said[len(said)-logTail:]
	}
	return said
}

func cleanLog(text string, secrets []string) string {
	text = noise.ReplaceAllString(colours.ReplaceAllString(text, ""), "")
	text = tokens.ReplaceAllString(redact(text, secrets), "${1}***")
	return strings.TrimSpace(queries.ReplaceAllString(text, "(query)"))
}

// lastWord is the last line of a log that says what went wrong.
func lastWord(log string) string {
	word := ""
	for line := range strings.Lines(log) {
		// The FUSE library only repeats the error's number.
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, "fuse-backend-rs") {
			word = line
		}
	}
	return word
}
