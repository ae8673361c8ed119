package inspect

import (
	"fmt"
	"strings"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// The names of what the format numbers. Package rafs lets no other numbers pass.
var (
	digesterNames   = map[rafs.Digester]string{rafs.Blake3: "blake3", rafs.SHA256: "sha256"}
	compressorNames = map[rafs.Compressor]string{
		rafs.CompressorNone: "none", rafs.CompressorLZ4: "lz4_block", rafs.CompressorGzip: "gzip", rafs.CompressorZstd: "zstd",
	}
	cipherNames = map[rafs.Cipher]string{rafs.CipherNone: "none", rafs.CipherAES128XTS: "aes-128-xts"}
)

// A bit is a flag with the name that the Nydus project gives it.
type bit struct {
	value uint64
	name  string
}

// superblockFlags are RafsSuperFlags (rafs/src/metadata/mod.rs).
var superblockFlags = []bit{
	{uint64(rafs.FlagCompressorNone), "COMPRESSION_NONE"},
	{uint64(rafs.FlagCompressorLZ4), "COMPRESSION_LZ4"},
	{uint64(rafs.FlagDigesterBlake3), "HASH_BLAKE3"},
	{uint64(rafs.FlagDigesterSHA256), "HASH_SHA256"},
	{uint64(rafs.FlagExplicitUIDGID), "EXPLICIT_UID_GID"},
	{uint64(rafs.FlagHasXattr), "HAS_XATTR"},
	{uint64(rafs.FlagCompressorGzip), "COMPRESSION_GZIP"},
	{uint64(rafs.FlagCompressorZstd), "COMPRESSION_ZSTD"},
	{uint64(rafs.FlagInlinedChunkDigest), "INLINED_CHUNK_DIGEST"},
	{uint64(rafs.FlagTarfs), "TARTFS_MODE"},
	{uint64(rafs.FlagEncryptionNone), "ENCRYPTION_NONE"},
	{uint64(rafs.FlagEncryptionAES128XTS), "ENCRYPTION_AES128XTS"},
}

// blobFeatures are BlobFeatures (storage/src/device.rs).
var blobFeatures = []bit{
	{uint64(rafs.BlobAligned), "ALIGNED"},
	{uint64(rafs.BlobInlinedMeta), "INLINED_FS_META"},
	{uint64(rafs.BlobChunkInfoV2), "CHUNK_INFO_V2"},
	{uint64(rafs.BlobZran), "ZRAN"},
	{uint64(rafs.BlobSeparate), "SEPARATE"},
	{uint64(rafs.BlobInlinedChunkDigest), "INLINED_CHUNK_DIGEST"},
	{uint64(rafs.BlobTarfs), "TARFS"},
	{uint64(rafs.BlobBatch), "BATCH"},
	{uint64(rafs.BlobEncrypted), "ENCRYPTED"},
	{uint64(rafs.BlobChunkDict), "IS_CHUNKDICT_GENERATED"},
	{uint64(rafs.BlobPrefetchSeparated), "IS_SEPARATED_WITH_PREFETCH_FILES"},
	{uint64(rafs.BlobExternal), "EXTERNAL"},
	{uint64(rafs.BlobHasTarHeader), "HAS_TAR_HEADER"},
	{uint64(rafs.BlobHasTOC), "HAS_TOC"},
	{uint64(rafs.BlobCapTarTOC), "CAP_TAR_TOC"},
}

// bitNames names the bits that are set; those without a name are one number.
func bitNames(bits []bit, value uint64) []string {
	names := []string{}
	for _, b := range bits {
		if value&b.value != 0 {
			names = append(names, b.name)
			value &^= b.value
		}
	}
	if value != 0 {
		names = append(names, fmt.Sprintf("%#x", value))
	}
	return names
}

func joined(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, " ")
}
