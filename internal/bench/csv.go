package bench

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// column is one column of the CSV file: its name and the field that it spells.
type column struct {
	name  string
	field func(*Row) any // a pointer to a string, an int, an int64 or a float64
}

var columns = []column{
	{"image", func(r *Row) any { return &r.Image }},
	{"scanners", func(r *Row) any { return &r.Scanners }},
	{"link", func(r *Row) any { return &r.Link }},
	{"cache", func(r *Row) any { return &r.State }},
	{"tool", func(r *Row) any { return &r.Tool }},
	{"form", func(r *Row) any { return &r.Form }},
	{"runs", func(r *Row) any { return &r.Runs }},
	{"seconds", func(r *Row) any { return &r.Seconds }},
	{"seconds_ratio", func(r *Row) any { return &r.SecondsRatio }},
	{"cpu_seconds", func(r *Row) any { return &r.CPUSeconds }},
	{"cpu_ratio", func(r *Row) any { return &r.CPURatio }},
	{"peak_memory_bytes", func(r *Row) any { return &r.PeakMemory }},
	{"peak_memory_ratio", func(r *Row) any { return &r.MemoryRatio }},
	{"bytes", func(r *Row) any { return &r.Bytes }},
	{"bytes_ratio", func(r *Row) any { return &r.BytesRatio }},
	{"requests", func(r *Row) any { return &r.Requests }},
	{"temporary_disk_bytes", func(r *Row) any { return &r.TemporaryDisk }},
	{"cache_disk_bytes", func(r *Row) any { return &r.CacheDisk }},
	{"findings", func(r *Row) any { return &r.Findings }},
	{"packages", func(r *Row) any { return &r.Packages }},
	{"missing", func(r *Row) any { return &r.Missing }},
	{"added", func(r *Row) any { return &r.Added }},
}

// WriteCSV writes the rows below a line with the names of the columns.
func WriteCSV(w io.Writer, rows []Row) error {
	out := csv.NewWriter(w)
	record := make([]string, len(columns))
	for i, c := range columns {
		record[i] = c.name
	}
	if err := out.Write(record); err != nil {
		return err
	}
	for _, row := range rows {
		for i, c := range columns {
			record[i] = spell(c.field(&row))
		}
		if err := out.Write(record); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func spell(field any) string {
	switch field := field.(type) {
	case *string:
		return *field
	case *int:
		return strconv.Itoa(*field)
	case *int64:
		return strconv.FormatInt(*field, 10)
	case *float64:
		return strconv.FormatFloat(*field, 'f', 4, 64)
	}
	panic(fmt.Sprintf("a column of type %T", field))
}

// ReadCSV reads what WriteCSV wrote. A file with other columns is an error.
func ReadCSV(r io.Reader) ([]Row, error) {
	records, err := csv.NewReader(r).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read measurements: %w", err)
	}
	var names []string
	for _, c := range columns {
		names = append(names, c.name)
	}
	if len(records) == 0 || !slices.Equal(records[0], names) {
		return nil, fmt.Errorf("read measurements: the columns are not %v", names)
	}
	rows := make([]Row, len(records)-1)
	for n, record := range records[1:] {
		for i, c := range columns {
			if err := parse(record[i], c.field(&rows[n])); err != nil {
				return nil, fmt.Errorf("read measurements: line %d, column %s: %w", n+2, c.name, err)
			}
		}
	}
	return rows, nil
}

func parse(text string, field any) (err error) {
	switch field := field.(type) {
	case *string:
		*field = text
	case *int:
		*field, err = strconv.Atoi(text)
	case *int64:
		*field, err = strconv.ParseInt(text, 10, 64)
	case *float64:
		*field, err = strconv.ParseFloat(text, 64)
	default:
		panic(fmt.Sprintf("a column of type %T", field))
	}
	return err
}
