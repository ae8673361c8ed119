package nydusmount

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestParseMountTable(t *testing.T) {
	table := parseMountTable(`22 1 254:0 / / rw,relatime - ext4 /dev/root rw
42 27 0:39 / /tmp/a\040b\134c\011 ro,nosuid master:1 - fuse rafs ro,user_id=0
43 27 0:40 / /other rw shared:2 propagate_from:3 - fuse.sshfs host: rw
a broken line
`)
	assert.Equal(t, []mountEntry{
		{"22", "254:0", "/", "ext4"},
		{"42", "0:39", "/tmp/a b\\c\t", "fuse"},
		{"43", "0:40", "/other", "fuse.sshfs"},
	}, table)
	assert.False(t, table[0].isFUSE())
	assert.True(t, table[1].isFUSE())
	assert.True(t, table[2].isFUSE())
}
