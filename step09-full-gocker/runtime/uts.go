package runtime

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// setNames sets the host name and the domain name of this UTS namespace: uts_namespaces(7).
func setNames(s *specs.Spec) error {
	if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
		return fmt.Errorf("sethostname %s: %w", s.Hostname, err)
	}
	if s.Domainname == "" {
		return nil
	}
	if err := unix.Setdomainname([]byte(s.Domainname)); err != nil {
		return fmt.Errorf("setdomainname %s: %w", s.Domainname, err)
	}
	return nil
}
