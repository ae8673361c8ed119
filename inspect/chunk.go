package inspect

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A UsedChunk is a chunk and the files that have it.
type UsedChunk struct {
	Chunk
	Files []ChunkUse `json:"files"` // in the order of a walk
}

// A ChunkUse is a place of a chunk in a file.
type ChunkUse struct {
	Path
	FileOffset int64 `json:"file_offset"`
}

// chunk finds chunks by a place in a blob or by their digest, as [UsedChunk]
// values: those that files of the image have.
func chunk(ctx context.Context, s *Session, c *Call) (Answer, error) {
	var wanted func(*rafs.Chunk) bool
	var err error
	if len(c.args) == 1 {
		wanted, err = s.chunkByDigest(c, c.args[0])
	} else {
		wanted, err = s.chunkByPlace(ctx, c, c.args[0], c.args[1])
	}
	if err != nil {
		return nil, err
	}
	found := chunkList{}
	at := make(map[chunkKey]int)
	err = s.tree.WalkContext(ctx, func(name string, i rafs.Inode) error {
		chunks, err := i.Chunks()
		if err != nil {
			return fmt.Errorf("%s: %w", absolute(name), err)
		}
		for k := range chunks {
			this := &chunks[k]
			if !wanted(this) {
				continue
			}
			key := chunkKey{this.Blob, this.Index, this.Digest}
			n, ok := at[key]
			if !ok {
				described, err := s.newChunk(ctx, 0, s.tree, this)
				if err != nil {
					return err
				}
				n = len(found)
				at[key] = n
				found = append(found, UsedChunk{Chunk: described})
			}
			found[n].Files = append(found[n].Files, ChunkUse{newPath(name), this.FileOffset})
		}
		return nil
	})
	if err == nil && len(found) == 0 {
		err = &UsageError{fmt.Errorf("no file of the image has a chunk %s", strings.Join(c.args, " ")), hintStat}
	}
	return found, err
}

type chunkKey struct {
	blob   int
	index  uint32
	digest [32]byte
}

// chunkByDigest selects chunks by the beginning of their digest.
func (s *Session) chunkByDigest(c *Call, text string) (func(*rafs.Chunk) bool, error) {
	name, digits, ok := strings.Cut(text, ":")
	if !ok {
		name, digits = "", text
	}
	digits = strings.ToLower(digits)
	prefix, err := parseHexPrefix(digits)
	if err != nil || len(digits) < minPrefix || name != "" && name != "blake3" && name != "sha256" {
		return nil, c.wrong("%q is no digest: give 4 to 64 hexadecimal digits, or a blob and an offset", text)
	}
	blobs := s.tree.Blobs()
	return func(chunk *rafs.Chunk) bool {
		return chunk.HasDigest && prefix.begins(chunk.Digest) && (name == "" || name == digesterNames[blobs[chunk.Blob].Digester])
	}, nil
}

// A hexPrefix is the beginning of a digest, in half bytes.
type hexPrefix []byte

func parseHexPrefix(digits string) (hexPrefix, error) {
	if len(digits) > 64 {
		return nil, strconv.ErrRange
	}
	p := make(hexPrefix, len(digits))
	for i := range digits {
		n, err := strconv.ParseUint(digits[i:i+1], 16, 8)
		if err != nil {
			return nil, err
		}
		p[i] = byte(n)
	}
	return p, nil
}

func (p hexPrefix) begins(digest [32]byte) bool {
	for i, half := range p {
		if digest[i/2]>>(4*(1-i%2))&0xf != half {
			return false
		}
	}
	return true
}

// chunkByPlace selects the chunks of a blob that have the byte at an offset.
func (s *Session) chunkByPlace(ctx context.Context, c *Call, blobText, offsetText string) (func(*rafs.Chunk) bool, error) {
	index, err := s.blobIndex(c, blobText)
	if err != nil {
		return nil, err
	}
	offset, err := strconv.ParseUint(offsetText, 0, 64)
	if err != nil {
		return nil, c.wrong("%q is no offset", offsetText)
	}
	within := func(start uint64, size uint32) bool { return offset >= start && offset-start < uint64(size) }
	if c.uncompressed {
		return func(chunk *rafs.Chunk) bool {
			return chunk.Blob == index && within(chunk.UncompressedOffset, chunk.UncompressedSize)
		}, nil
	}
	if !blob.NeedsMeta(s.tree.Blobs()[index]) {
		return func(chunk *rafs.Chunk) bool {
			return chunk.Blob == index && within(chunk.CompressedOffset, chunk.CompressedSize)
		}, nil
	}
	table, err := s.table(ctx, index)
	if err != nil {
		return nil, err
	}
	if table == nil {
		return nil, fmt.Errorf("only blob.meta says where the chunks of blob %d are stored, and that is not there: give the offset of the decompressed data, with --uncompressed", index)
	}
	// The chunks of a batch all have its offset. It ends where the next begins.
	var start uint64
	for i := range table.Len() {
		if at := table.Chunk(i).CompressedOffset; at <= offset {
			start = max(start, at)
		}
	}
	return func(chunk *rafs.Chunk) bool {
		if chunk.Blob != index || int64(chunk.Index) >= int64(table.Len()) {
			return false
		}
		m := table.Chunk(int(chunk.Index))
		return within(m.CompressedOffset, m.CompressedSize) || m.CompressedSize == 0 && m.CompressedOffset == start
	}, nil
}

type chunkList []UsedChunk

// Text implements [Answer].
func (all chunkList) Text(w *bufio.Writer) error {
	for i := range all {
		c := &all[i]
		fmt.Fprintf(w, "chunk %d of blob %d (%s)\n", c.Index, c.BlobIndex, c.BlobID)
		fmt.Fprintf(w, "  stored at %s, decompressed at %d+%d\n", c.offsetText(), c.UncompressedOffset, c.UncompressedSize)
		fmt.Fprintf(w, "  digest %s\n", cmp.Or(c.Digest, "-"))
		for _, f := range c.Files {
			fmt.Fprintf(w, "  %12d  %s\n", f.FileOffset, Escape(f.Path.Path))
		}
	}
	return nil
}
