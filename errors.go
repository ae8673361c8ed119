package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/artifact"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/confined"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/ocicrypt"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A usageError is a mistake in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usage(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// An ourError comes from this project's code, through Trivy's runner, which puts
// words of its own around it.
type ourError struct{ error }

func (e ourError) Unwrap() error { return e.error }

// withTimeout bounds what is done by --timeout; its error is that of inTime.
func withTimeout(ctx context.Context, what string, timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, timeout,
		fmt.Errorf("%s took longer than %v (--timeout): %w", what, timeout, context.DeadlineExceeded))
}

// inTime is the error of what has failed with ctx, nil if nothing has. If the time was
// up, it says that, whatever else there was, and what was waited for; but what did not
// end, and what is left, it keeps.
func inTime(ctx context.Context, err error) error {
	if err == nil || !errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(err, errStuck) || errors.Is(err, nydusmount.ErrLeft) {
		return err
	}
	var waiting *blob.WaitError
	if errors.As(err, &waiting) {
		return fmt.Errorf("%w, %s", context.Cause(ctx), waiting.Reason())
	}
	return context.Cause(ctx)
}

// maxError bounds what is shown of an error, in bytes: registries send pages of
// HTML.
const maxError = 4 << 10

// explain turns an error into one line that says what is wrong, and one hint
// at what to do, for a terminal.
func explain(err error) string {
	var inner ourError
	if errors.As(err, &inner) {
		err = inner.error
	}
	text := oneLine(err.Error())
	if len(text) > maxError {
		text = strings.ToValidUTF8(text[:maxError], "") + "…"
	}
	return "error: " + text + "\nhint: " + hint(err)
}

// noReport ends the hints of scans at what keeps an image from being scanned.
const noReport = "; there is no report"

// hint is what to do about an error. A command other than scan has words of its own for
// some, and never a report to miss.
func hint(err error) string {
	var command interface {
		error
		hint() string
	}
	ofScan := !errors.As(err, &command)
	switch raise := limitHint(err); {
	case raise != "" && ofScan:
		return raise + noReport
	case raise != "":
		return raise
	case !ofScan:
		return strings.TrimSuffix(command.hint(), noReport)
	}
	var read *artifact.ReadError
	var plain *nydusimage.NotNydusError
	var wrong usageError
	var badName *name.ErrBadName
	var certificate *tls.CertificateVerificationError
	var lookup *net.DNSError
	switch {
	case errors.As(err, &wrong):
		return "see trivy nydus scan --help"
	case errors.As(err, &certificate):
		return "give the authority of the registry's certificate with --cacert, or do without its verification with --insecure"
	case errors.Is(err, nydusimage.ErrPlatform):
		return "choose one of these with --platform"
	case errors.Is(err, blob.ErrNotFollowed):
		return "check the registry's name; if it is right, ask who runs it: what it answers leads into this machine's own network"
	case errors.Is(err, nydusimage.ErrUnauthorized):
		return "log in with docker login or podman login, or give --username and TRIVY_PASSWORD"
	case errors.Is(err, nydusimage.ErrNotFound):
		return "check the image's name, tag and registry"
	case errors.Is(err, artifact.ErrLayers):
		return "leave --require-layers out to scan what the image shows"
	case errors.As(err, &plain):
		return "leave --require-nydus out to scan it as trivy image does"
	case errors.Is(err, nydusmount.ErrBackend):
		return "say where the data lies, with --mount nydusd, --backend-type and --backend-config-file"
	case errors.Is(err, nydusmount.ErrUnvouched):
		return "--allow-unverified reads it all the same, and marks the results"
	case errors.Is(err, confined.ErrUnavailable):
		return "leave ansible and terraform out of --misconfig-scanners, or, if you trust the image, add --allow-unconfined" + noReport
	case errors.Is(err, confined.ErrEnded):
		return "leave ansible and terraform out of --misconfig-scanners to scan the rest" + noReport
	case errors.Is(err, ocicrypt.ErrKey):
		return "give the private key that it was encrypted for with --decryption-key; PKCS #7 takes its certificate, too"
	case errors.As(err, &badName):
		return "write it as host/repository:tag or host/repository@sha256:…, in lower case"
	case errors.Is(err, rafs.ErrUnsupported):
		return "this version does not read such images" + noReport
	case errors.Is(err, blob.ErrDigest):
		return "the image was damaged or altered: pull it anew or convert it again" + noReport
	case errors.Is(err, rafs.ErrCorrupt), errors.Is(err, nydusimage.ErrInvalid):
		return "the image is damaged or malformed: convert it again" + noReport
	case errors.Is(err, context.DeadlineExceeded):
		return "give more time with --timeout"
	case errors.As(err, &lookup):
		return "check the registry's name; the path of a folder begins with ./ or /"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "make room there, or choose another place: --cache-dir for the cache, TMPDIR for temporary files"
	case errors.Is(err, syscall.EROFS):
		return "choose a folder that can be written to: --cache-dir for the cache, TMPDIR for temporary files"
	case errors.Is(err, fs.ErrPermission):
		return "check who may read and write there; --cache-dir names another folder for the cache, TMPDIR for temporary files"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there: check the registry's name and port"
	case errors.Is(err, nydusmount.ErrMountPoint):
		return "give an empty folder at which nothing is mounted"
	case errors.As(err, &read) && errors.Is(err, nydusmount.ErrNydusd):
		return "try again" + noReport
	case errors.Is(err, blob.ErrIncomplete), errors.As(err, &read):
		return "the registry did not give all bytes: try again" + noReport
	case errors.Is(err, nydusmount.ErrNydusd), errors.Is(err, nydusmount.ErrRefused):
		return "a scan with --mount native needs no nydusd"
	case errors.Is(err, fs.ErrNotExist):
		return "check the path"
	}
	return "run it again with --debug to see what came before"
}

// oneLine makes text safe for a terminal: names in an image can hold control
// characters.
func oneLine(text string) string {
	return printable(strings.NewReplacer("\n", "; ", "\t", " ").Replace(strings.TrimSpace(text)))
}

// printable spells out the control characters of a text, and what of it is no
// UTF-8.
func printable(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\x%02x`, r)
		}
	}
	return b.String()
}
