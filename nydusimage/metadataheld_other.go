//go:build !linux && !darwin

package nydusimage

import "os"

// Here it cannot be told whether somebody writes a file: its age must do.

func createUnfinished(dir string) (file *os.File, release func(), err error) {
	file, err = os.CreateTemp(dir, newPrefix)
	return file, func() {}, err
}

func removeAbandoned(string) {}
