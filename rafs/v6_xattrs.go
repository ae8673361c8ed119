package rafs

import "strings"

const (
	v6XattrHeaderSize = 12
	v6XattrEntrySize  = 4
)

// v6XattrPrefixes are what a name's index stands for (EROFS_XATTR_INDEX_ in
// Linux). Indexes that are not here are not written by any builder.
var v6XattrPrefixes = [...]string{
	1: "user.",
	2: "system.posix_acl_access",
	3: "system.posix_acl_default",
	4: "trusted.",
	6: "security.",
}

func (f *v6) xattrs(node uint64, yield func(name string, value []byte) error) error {
	n, err := f.find(node)
	if err != nil || n.xattrSize() == 0 {
		return err
	}
	area, err := f.metadata.at("extended attributes", n.xattrAt(), n.xattrSize())
	if err != nil {
		return err
	}
	if shared := area[4]; shared != 0 {
		return unsupportedf("shared extended attributes")
	}
	for area = area[v6XattrHeaderSize:]; len(area) > 0; {
		if len(area) < v6XattrEntrySize {
			return corruptf("an entry begins in the last %d bytes", len(area))
		}
		suffix, index, value := int(area[0]), int(area[1]), int(le.Uint16(area[2:]))
		end := v6XattrEntrySize + suffix + value
		if end > len(area) {
			return corruptf("an entry of %d bytes ends outside the %d that are left", end, len(area))
		}
		if index >= len(v6XattrPrefixes) || v6XattrPrefixes[index] == "" {
			return corruptf("unknown name index %d", index)
		}
		name := v6XattrPrefixes[index] + string(area[v6XattrEntrySize:v6XattrEntrySize+suffix])
		if strings.Contains(name, "\x00") {
			return corruptf("the name %q has a NUL byte", name) // it ends one where names are listed
		}
		if err := yield(name, area[v6XattrEntrySize+suffix:end]); err != nil {
			return err
		}
		area = area[min((end+3)&^3, len(area)):]
	}
	return nil
}
