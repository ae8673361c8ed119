package consistency

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// listed is a filesystem of one node.
type listed struct{ Node }

func (l listed) Walk(fn func(Node) error) error { return fn(l.Node) }

// TestFields: a node's fields are named and spelled as in differences, so that
// the two can stand beside each other.
func TestFields(t *testing.T) {
	for name, mode := range map[string]uint32{
		"directory": typeDir, "regular file": typeRegular, "symbolic link": typeSymlink,
		"character device": typeChar, "block device": typeBlock, "FIFO": typeFIFO, "socket": typeSocket,
	} {
		t.Run(name, func(t *testing.T) {
			want := Node{
				Path: "x", Mode: mode | 0o4755, UID: 1, GID: 2, Rdev: 3<<32 | 4, Size: 5, MTime: time.Unix(6, 7),
				Target: "a\nb", Xattrs: map[string][]byte{"user.x": {0, 0xff}}, Links: 8, Inode: 9,
			}.normalize()
			got := Node{
				Path: "x", Mode: mode | 0o644, UID: 11, GID: 12, Rdev: 13<<32 | 14, Size: 15, MTime: time.Unix(16, 17),
				Target: "c", Xattrs: map[string][]byte{"user.x": []byte("y")}, Links: 18, Inode: 19,
			}.normalize()
			differences, err := Compare(listed{want}, listed{got})
			require.NoError(t, err)
			found := make(map[string]Difference)
			for _, d := range differences {
				found[d.Field] = d
			}
			for i, f := range want.Fields() {
				if f.Name == "type" {
					assert.Equal(t, name, f.Value)
					continue
				}
				assert.Equal(t, found[f.Name].Want, f.Value, f.Name)
				assert.Equal(t, found[f.Name].Got, got.Fields()[i].Value, f.Name)
				delete(found, f.Name)
			}
			for field := range found {
				assert.Contains(t, []string{"symlink", "rdev"}, field, "a field that this type has not")
			}
		})
	}
}

// TestXattrFieldsAreApart: two names that are no Unicode are two fields.
func TestXattrFieldsAreApart(t *testing.T) {
	n := Node{Path: "x", Mode: typeRegular, Xattrs: map[string][]byte{"user.\xff": nil, "user.\xfe": nil, "user.é": nil}}
	var names []string
	for _, f := range n.Fields() {
		if strings.HasPrefix(f.Name, "xattr ") {
			names = append(names, f.Name)
		}
	}
	assert.ElementsMatch(t, []string{`xattr user.\xff`, `xattr user.\xfe`, "xattr user.é"}, names)
}

// TestLongXattrs: long values that differ are told apart, and take little of a report.
func TestLongXattrs(t *testing.T) {
	long := func(end string) map[string][]byte {
		return map[string][]byte{"user.x": []byte(strings.Repeat("v", 64<<10) + end), "user.same": []byte("s")}
	}
	var found []Difference
	compareXattrs(long("a"), long("b"), func(field, want, got string) { found = append(found, Difference{Field: field, Want: want, Got: got}) })
	require.Len(t, found, 1)
	assert.Equal(t, "xattr user.x", found[0].Field)
	assert.NotEqual(t, found[0].Want, found[0].Got)
	assert.Less(t, len(found[0].Want), 2*maxXattrText)
	compareXattrs(nil, long(""), func(field, want, got string) { assert.Equal(t, "none", want); found = append(found, Difference{}) })
	assert.Len(t, found, 3)
}
