package mutate

import (
	"bytes"
	"fmt"
	"strconv"
)

const (
	tarBlock = 512
	// Where fields of a header are.
	tarSize, tarSizeEnd = 124, 136
	tarSum, tarSumEnd   = 148, 156
	tarType             = 156
)

// MendTar computes sizes and checksums of an archive's headers again, or its reader
// would end at the first that is altered: a size that goes on behind the end becomes
// what there is.
func MendTar(archive []byte) []byte {
	mended := append(bytes.Clone(archive), make([]byte, (tarBlock-len(archive)%tarBlock)%tarBlock)...)
	for rest := mended; len(rest) > 0; {
		header := rest[:tarBlock]
		rest = rest[tarBlock:]
		if bytes.Count(header, []byte{0}) == tarBlock {
			continue // the end
		}
		size, err := strconv.ParseUint(string(bytes.Trim(header[tarSize:tarSizeEnd], " \x00")), 8, 63)
		switch {
		case err != nil || header[tarType] >= '1' && header[tarType] <= '6': // links, devices and folders have no content
			size = 0
		case size > uint64(len(rest)):
			size = uint64(len(rest))
		}
		copy(header[tarSize:tarSizeEnd], fmt.Sprintf("%011o\x00", size))
		copy(header[tarSum:tarSumEnd], "        ")
		sum := 0
		for _, b := range header {
			sum += int(b)
		}
		copy(header[tarSum:tarSumEnd], fmt.Sprintf("%06o\x00 ", sum))
		rest = rest[(size+tarBlock-1)/tarBlock*tarBlock:]
	}
	return mended
}
