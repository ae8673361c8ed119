package consistency

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// An Ignore leaves differences out of a result.
type Ignore struct {
	// Path is a pattern as in [path.Match]; an element "**" stands for any number
	// of elements, none included. "" is every path.
	Path string
	// Field is a field's name, in which "*" stands for any characters; "" is every
	// field.
	Field string
}

// ParseIgnore reads PATTERN or PATTERN:FIELD, cut at the last colon. A leading
// "/" or "./" of the pattern is left out.
func ParseIgnore(s string) (Ignore, error) {
	pattern, field := s, ""
	if colon := strings.LastIndex(s, ":"); colon >= 0 {
		pattern, field = s[:colon], s[colon+1:]
	}
	switch pattern {
	case "":
		if field == "" {
			return Ignore{}, fmt.Errorf("ignore %q: it names neither a path nor a field", s)
		}
	case "/", "./":
		pattern = "." // the root
	default:
		pattern = strings.TrimPrefix(strings.TrimPrefix(pattern, "./"), "/")
	}
	for element := range strings.SplitSeq(pattern, "/") {
		if _, err := path.Match(element, ""); err != nil {
			return Ignore{}, fmt.Errorf("ignore %q: %w", s, err)
		}
	}
	return Ignore{Path: pattern, Field: field}, nil
}

// Matches says whether the difference is to be left out.
func (i Ignore) Matches(d Difference) bool {
	return (i.Path == "" || matchPath(i.Path, d.Path)) && (i.Field == "" || matchField(i.Field, d.Field))
}

// ignored says whether any of the ignores leaves the difference out.
func ignored(d Difference, ignores []Ignore) bool {
	return slices.ContainsFunc(ignores, func(i Ignore) bool { return i.Matches(d) })
}

// matchPath goes back to the last "**" only, which is enough: what an earlier
// one could take, the last can, too.
func matchPath(pattern, name string) bool {
	patterns, names := strings.Split(pattern, "/"), strings.Split(name, "/")
	p, n := 0, 0
	star, resume := -1, 0 // the last "**", and where the names behind it begin
	for n < len(names) {
		if p < len(patterns) && patterns[p] == "**" {
			star, resume = p, n
			p++
			continue
		}
		if p < len(patterns) {
			// ParseIgnore has seen that the pattern is well-formed.
			if ok, _ := path.Match(patterns[p], names[n]); ok {
				p, n = p+1, n+1
				continue
			}
		}
		if star < 0 {
			return false
		}
		resume++
		p, n = star+1, resume
	}
	for p < len(patterns) && patterns[p] == "**" {
		p++
	}
	return p == len(patterns)
}

// matchField matches parts between stars from left to right; the first found is
// as good as any later one.
func matchField(pattern, field string) bool {
	parts := strings.Split(pattern, "*")
	first, last := parts[0], parts[len(parts)-1]
	if len(parts) == 1 {
		return pattern == field
	}
	if !strings.HasPrefix(field, first) || len(field) < len(first)+len(last) || !strings.HasSuffix(field, last) {
		return false
	}
	field = field[len(first) : len(field)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(field, part)
		if at < 0 {
			return false
		}
		field = field[at+len(part):]
	}
	return true
}
