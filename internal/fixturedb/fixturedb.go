// Package fixturedb makes the databases that Trivy looks vulnerabilities up in
// out of small YAML files, for scans without a network. The files name buckets
// and keys as trivy-db has them: see testdata/db.
package fixturedb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	fixtures "github.com/aquasecurity/bolt-fixtures"
	"github.com/aquasecurity/trivy-db/pkg/db"
	"github.com/aquasecurity/trivy-db/pkg/metadata"
	javadb "github.com/aquasecurity/trivy-java-db/pkg/db"

	_ "modernc.org/sqlite" // the Java database is an SQLite file
)

// The databases were made at updatedAt and are good until nextUpdate; both are
// fixed, so that a report does not change from run to run.
var (
	updatedAt  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	nextUpdate = time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Make writes the vulnerability database, with what the YAML files hold, and an
// empty Java database into a cache folder of Trivy's. It replaces those there.
func Make(cacheDir string, files []string) error {
	if err := makeVulnerabilities(filepath.Join(cacheDir, "db"), files); err != nil {
		return fmt.Errorf("make the vulnerability database: %w", err)
	}
	if err := makeJava(filepath.Join(cacheDir, "java-db")); err != nil {
		return fmt.Errorf("make the Java database: %w", err)
	}
	return nil
}

func makeVulnerabilities(dir string, files []string) (err error) {
	if len(files) == 0 {
		return errors.New("no YAML file is given")
	}
	if err := emptyDir(dir); err != nil {
		return err
	}
	loader, err := fixtures.New(db.Path(dir), files)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, loader.Close()) }()
	if err := loader.Load(); err != nil {
		return fmt.Errorf("load %v: %w", files, err)
	}
	return metadata.NewClient(dir).Update(metadata.Metadata{
		Version: db.SchemaVersion, UpdatedAt: updatedAt, NextUpdate: nextUpdate, DownloadedAt: updatedAt,
	})
}

// makeJava leaves the tables empty: the jars of the test images name themselves.
func makeJava(dir string) (err error) {
	if err := emptyDir(dir); err != nil {
		return err
	}
	database, err := javadb.New(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, database.Close()) }()
	if err := database.Init(); err != nil {
		return err
	}
	client := javadb.NewMetadata(dir)
	return client.Update(javadb.Metadata{
		Version: javadb.SchemaVersion, UpdatedAt: updatedAt, NextUpdate: nextUpdate, DownloadedAt: updatedAt,
	})
}

func emptyDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.MkdirAll(dir, 0o755)
}
