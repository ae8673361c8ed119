package rafs

// Flags are the flag bits of a superblock, RafsSuperFlags in the Nydus project
// (rafs/src/metadata/mod.rs).
type Flags uint64

// The superblock flags.
const (
	FlagCompressorNone      Flags = 0x1
	FlagCompressorLZ4       Flags = 0x2
	FlagDigesterBlake3      Flags = 0x4
	FlagDigesterSHA256      Flags = 0x8
	FlagExplicitUIDGID      Flags = 0x10 // if unset, nydusd shows its own user and group as owners
	FlagHasXattr            Flags = 0x20
	FlagCompressorGzip      Flags = 0x40
	FlagCompressorZstd      Flags = 0x80
	FlagInlinedChunkDigest  Flags = 0x100
	FlagTarfs               Flags = 0x200
	FlagEncryptionNone      Flags = 0x1000000
	FlagEncryptionAES128XTS Flags = 0x2000000

	flagsCompressor = FlagCompressorNone | FlagCompressorLZ4 | FlagCompressorGzip | FlagCompressorZstd
	flagsDigester   = FlagDigesterBlake3 | FlagDigesterSHA256
)

// compressor returns the compressor that the flags name. No bit at all means
// none, as nydusd has it for v5; two bits contradict each other.
func (f Flags) compressor() (Compressor, error) {
	switch f & flagsCompressor {
	case 0, FlagCompressorNone:
		return CompressorNone, nil
	case FlagCompressorLZ4:
		return CompressorLZ4, nil
	case FlagCompressorGzip:
		return CompressorGzip, nil
	case FlagCompressorZstd:
		return CompressorZstd, nil
	}
	return 0, corruptf("superblock flags %#x name more than one compressor", uint64(f))
}

// digester returns the digester that the flags name. No bit at all means
// BLAKE3, as nydusd has it for v5; two bits contradict each other.
func (f Flags) digester() (Digester, error) {
	switch f & flagsDigester {
	case 0, FlagDigesterBlake3:
		return Blake3, nil
	case FlagDigesterSHA256:
		return SHA256, nil
	}
	return 0, corruptf("superblock flags %#x name more than one digester", uint64(f))
}
