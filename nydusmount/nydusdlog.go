package nydusmount

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// logTail is how many bytes of nydusd's log an error shows at most.
const logTail = 1500

var (
	// colours are the escape sequences that nydusd's log has also in a file.
	colours = regexp.MustCompile("\x1b\\[[0-9;]*m")
	// queries hold the signatures of the addresses that registries redirect to.
	queries = regexp.MustCompile(`query: Some\("[^"]*"\)|\?[^\s"')]+`)
	// noise comes with each error: where nydusd's source reports it, with a stack
	// in newer versions, and how to see more.
	noise = regexp.MustCompile(`(?m)^[ \t]+(at |note: |\d+: ).*\n?`)
)

// readLog returns the end of the log in a run folder, without credentials.
func readLog(folder string, secrets []string) string {
	text, err := os.ReadFile(filepath.Join(folder, logFile))
	if err != nil {
		return ""
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
	return strings.TrimSpace(queries.ReplaceAllString(redact(text, secrets), "(query)"))
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
