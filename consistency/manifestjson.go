package consistency

import (
	"bytes"
	"encoding/json"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"time"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// Bounds on a manifest or config, far above any real one.
const (
	maxJSONDepth  = 32
	maxJSONValues = 1 << 17
)

// decodeObject decodes a document whose every field is compared, also those that
// no specification knows. An object that names a field twice is refused: its
// readers disagree on which one counts. So is what is no Unicode, of which the decoder
// would make the same character wherever it is.
func decodeObject(raw []byte) (map[string]any, error) {
	d := jsonDecoder{Decoder: json.NewDecoder(bytes.NewReader(raw))}
	d.UseNumber()
	value, err := d.value(0)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			err = nil
		} else if err == nil {
			err = errors.New("there is more behind its end")
		}
	}
	if err == nil && !jsontext.Value(raw).IsValid() {
		err = errors.New("it has text that is no Unicode")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", nydusimage.ErrInvalid, err)
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%w: it is no JSON object", nydusimage.ErrInvalid)
	}
	return object, nil
}

type jsonDecoder struct {
	*json.Decoder
	values int
}

// value decodes the next value: an object as map[string]any, an array as []any,
// a number as [json.Number].
func (d *jsonDecoder) value(depth int) (any, error) {
	if d.values++; d.values > maxJSONValues || depth > maxJSONDepth {
		return nil, fmt.Errorf("over %d values, or more than %d levels deep", maxJSONValues, maxJSONDepth)
	}
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		return d.object(depth)
	case json.Delim('['):
		list := []any{}
		for d.More() {
			element, err := d.value(depth + 1)
			if err != nil {
				return nil, err
			}
			list = append(list, element)
		}
		_, err := d.Token()
		return list, err
	}
	return token, nil
}

func (d *jsonDecoder) object(depth int) (any, error) {
	object := make(map[string]any)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string) // the decoder takes nothing else there
		if _, twice := object[name]; twice {
			return nil, fmt.Errorf("it has the field %q twice", name)
		}
		if object[name], err = d.value(depth + 1); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return object, err
}

// absent stands for a value that is not there, which is spelled noValue.
type absent struct{}

const noValue = "none"

// compareObjects calls differ for each field in which two documents differ. The
// names of fields are spelled as in jq, without the leading dot.
func compareObjects(want, got map[string]any, differ func(field string, want, got any)) {
	compareFields("", want, got, differ)
}

// schemaObject tells the objects whose fields the image specification defines,
// with defaults: there an empty value equals one that is not there. The names in
// other objects are of the user's choice, and compared as they stand.
var schemaObject = regexp.MustCompile(`^(|config|history\[\d+\])$`)

func compareFields(object string, want, got map[string]any, differ func(field string, want, got any)) {
	names := maps.Clone(want)
	maps.Copy(names, got)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		w, g := valueOf(want, name), valueOf(got, name)
		if schemaObject.MatchString(object) && (isEmpty(name, w) && isEmpty(name, g) || name == created && sameInstant(w, g)) {
			continue
		}
		compareValues(fieldName(object, name), w, g, differ)
	}
}

func compareValues(field string, want, got any, differ func(field string, want, got any)) {
	wantObject, ok1 := want.(map[string]any)
	gotObject, ok2 := got.(map[string]any)
	if ok1 && ok2 {
		compareFields(field, wantObject, gotObject, differ)
		return
	}
	wantList, ok1 := want.([]any)
	gotList, ok2 := got.([]any)
	if ok1 && ok2 {
		for i := range max(len(wantList), len(gotList)) {
			compareValues(fmt.Sprintf("%s[%d]", field, i), elementOf(wantList, i), elementOf(gotList, i), differ)
		}
		return
	}
	if !reflect.DeepEqual(want, got) {
		differ(field, want, got)
	}
}

func valueOf(object map[string]any, name string) any {
	if value, ok := object[name]; ok {
		return value
	}
	return absent{}
}

func elementOf(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return absent{}
}

// created is the name of the fields that hold a time.
const created = "created"

// isEmpty says whether a value is what the field of that name has where it is not there.
// A number is not: a StopTimeout of 0 is none of the default's 10 seconds.
func isEmpty(name string, value any) bool {
	switch value := value.(type) {
	case absent, nil:
		return true
	case bool:
		return !value
	case string:
		return value == "" || name == created && value == zeroInstant
	case []any:
		return len(value) == 0
	case map[string]any:
		return len(value) == 0
	}
	return false
}

// zeroInstant is what programs in Go write for a time that is not known.
const zeroInstant = "0001-01-01T00:00:00Z"

// sameInstant says whether two strings are one time, however it is written.
func sameInstant(want, got any) bool {
	w, ok1 := want.(string)
	g, ok2 := got.(string)
	if !ok1 || !ok2 || w == g {
		return false
	}
	wantTime, err1 := time.Parse(time.RFC3339Nano, w)
	gotTime, err2 := time.Parse(time.RFC3339Nano, g)
	return err1 == nil && err2 == nil && wantTime.Equal(gotTime)
}

var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func fieldName(parent, name string) string {
	switch {
	case !plainName.MatchString(name):
		return fmt.Sprintf("%s[%q]", parent, name)
	case parent == "":
		return name
	}
	return parent + "." + name
}

// spellJSON writes a value as a report shows it.
func spellJSON(value any) string {
	if _, ok := value.(absent); ok {
		return noValue
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(raw)
}
