package testimage

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// SecretFile is a text file at path with a made-up GitHub token and AWS access key, as Trivy's built-in rules find
// them. They differ from path to path. They are put together at run time: no scanner shall find them in our sources.
func SecretFile(path string) File {
	hash := sha256.Sum256([]byte(path))
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	var token strings.Builder
	for i := range 36 {
		token.WriteByte(letters[hash[i%len(hash)]%32])
	}
	return Text(path, fmt.Sprintf("export GITHUB_PAT=%s%s\nAWS_ACCESS_KEY_ID=%s%s\n",
		"gh"+"p_", token.String(), "AK"+"IA", token.String()[:16]))
}
