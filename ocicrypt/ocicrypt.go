// Package ocicrypt decrypts image layers that were encrypted as the ocicrypt
// project does it, whose media types end in "+encrypted". nydusify encrypts the
// bootstrap layer of an image that way.
//
// A layer is encrypted with a key of its own. Annotations of its descriptor hold
// that key, wrapped for each recipient, as JWE, PKCS #7 or OpenPGP messages; the
// recipient's private [Keys] unwrap it.
//
// The annotations belong to the image, so nothing that they name is run or asked:
// the key providers and PKCS #11 modules that ocicrypt also knows are refused.
package ocicrypt

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// MediaTypeSuffix is what the media type of an encrypted layer ends in.
const MediaTypeSuffix = "+encrypted"

var (
	// ErrKey is wrapped by errors about a layer that no key was given for.
	ErrKey = errors.New("no key for the encrypted layer")
	// ErrMalformed is wrapped by errors about annotations and layers that are not
	// what ocicrypt writes, or were altered.
	ErrMalformed = errors.New("malformed encryption")
	// ErrUnsupported is wrapped by errors about ways to encrypt that are not read.
	ErrUnsupported = errors.New("unsupported encryption")
)

// The annotations (ocicrypt's keywrap/ and encryption.go).
const (
	annotationPrefix   = "org.opencontainers.image.enc."
	annotationKeys     = annotationPrefix + "keys."
	annotationJWE      = annotationKeys + "jwe"
	annotationPKCS7    = annotationKeys + "pkcs7"
	annotationPGP      = annotationKeys + "pgp"
	annotationPKCS11   = annotationKeys + "pkcs11"
	annotationProvider = annotationKeys + "provider."
	annotationPublic   = annotationPrefix + "pubopts"
)

// maxWrapped bounds an annotation with wrapped keys, in bytes: those for some 200
// recipients.
const maxWrapped = 256 << 10

// A LayerKey decrypts one layer.
type LayerKey struct {
	private privateOptions
	public  publicOptions
}

// Unwrap returns the key of a layer; annotations are those of its descriptor. The
// error wraps [ErrKey], [ErrMalformed] or [ErrUnsupported]. Nil keys are none.
func (k *Keys) Unwrap(annotations map[string]string) (*LayerKey, error) {
	unwrapped, err := k.unwrap(annotations)
	if err != nil {
		return nil, err
	}
	var l LayerKey
	if err := json.Unmarshal(unwrapped, &l.private); err != nil {
		return nil, malformed("the unwrapped key: %w", err)
	}
	options, err := decodeBase64(annotations[annotationPublic])
	if err == nil {
		err = json.Unmarshal(options, &l.public)
	}
	if err != nil {
		return nil, malformed("annotation %s: %w", annotationPublic, err)
	}
	return &l, nil
}

// unwrap returns what is wrapped for the first of the keys that opens it.
func (k *Keys) unwrap(annotations map[string]string) ([]byte, error) {
	var wrappings []string
	for _, w := range []struct {
		annotation, name string
		unwrap           func([]byte) ([]byte, error)
	}{
		{annotationJWE, "JWE", k.unwrapJWE},
		{annotationPKCS7, "PKCS #7", k.unwrapPKCS7},
		{annotationPGP, "OpenPGP", k.unwrapPGP},
	} {
		value := annotations[w.annotation]
		if value == "" {
			continue
		}
		if len(value) > maxWrapped {
			return nil, malformed("annotation %s has %d bytes, more than %d", w.annotation, len(value), maxWrapped)
		}
		wrappings = append(wrappings, w.name)
		for message := range strings.SplitSeq(value, ",") {
			decoded, err := decodeBase64(message)
			if err != nil {
				return nil, malformed("annotation %s: %w", w.annotation, err)
			}
			plain, err := w.unwrap(decoded)
			if err == nil {
				return plain, nil
			}
			if !errors.Is(err, ErrKey) {
				return nil, fmt.Errorf("annotation %s: %w", w.annotation, err)
			}
		}
	}
	switch elsewhere := heldElsewhere(annotations); {
	case len(wrappings) == 0 && elsewhere != "":
		return nil, fmt.Errorf("%w: its key is held by %s, which is not asked", ErrUnsupported, elsewhere)
	case len(wrappings) == 0:
		return nil, malformed("no annotation holds its key")
	case k.empty():
		return nil, fmt.Errorf("%w: it was encrypted by %s, and no key was given", ErrKey, strings.Join(wrappings, " and "))
	default:
		return nil, fmt.Errorf("%w: it was encrypted by %s, for none of the keys given", ErrKey, strings.Join(wrappings, " and "))
	}
}

// heldElsewhere names what holds the key of a layer but no file; "" if nothing
// does.
func heldElsewhere(annotations map[string]string) string {
	if annotations[annotationPKCS11] != "" {
		return "a PKCS #11 module"
	}
	for name := range annotations {
		if provider, ok := strings.CutPrefix(name, annotationProvider); ok {
			return fmt.Sprintf("the key provider %q", provider)
		}
	}
	return ""
}

func decodeBase64(text string) ([]byte, error) { return base64.StdEncoding.DecodeString(text) }

// malformed makes an error that wraps ErrMalformed.
func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrMalformed, fmt.Errorf(format, args...))
}
