package testimage

import (
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// WordPress is Debian's package of WordPress, on a layer with Apache, PHP and the client of MariaDB, on Debian: some 150
// packages.
func WordPress(t testing.TB) Spec {
	t.Helper()
	server := withDependencies(t, debianBase, "apache2", "libapache2-mod-php", "mariadb-client")
	below := slices.Concat(debianBase, server)
	return Spec{
		Name: "wordpress",
		Layers: []Layer{
			DebianLayer(t, debianBase...),
			DebianUpgradeLayer(t, debianBase, server...),
			DebianUpgradeLayer(t, below, withDependencies(t, below, "apache2", "libapache2-mod-php", "mariadb-client",
				"wordpress")...),
		},
		Config:       v1.Config{Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, Cmd: []string{"apachectl", "-D", "FOREGROUND"}},
		EmptyHistory: []v1.History{EmptyHistory(`CMD ["apachectl" "-D" "FOREGROUND"]`)},
	}
}
