package redistest

import (
	"os"
	"strconv"

	"github.com/signalbox-io/signalbox/membership/agent/driver/managed/lab"
	"github.com/signalbox-io/signalbox/membership/agent/driver/redis"
)

// Encrypted has a node's server speak TLS only, with client certificates. The
// certificate is the server's own, and the one that it shows as a replica.
func (n *Node) Encrypted(c lab.Certificate) error {
	raw, err := os.ReadFile(n.File())
	if err != nil {
		return err
	}
	return n.Lab.Write(n.File(), string(raw)+"port 0\ntls-port "+strconv.Itoa(n.Port)+"\ntls-cert-file "+c.Cert+"\ntls-key-file "+c.Key+
		"\ntls-ca-cert-file "+c.CA+"\ntls-auth-clients yes\n")
}

// TLS adds a certificate to a login.
func TLS(login redis.Login, c lab.Certificate) redis.Login {
	login.CA, login.Cert, login.Key = c.CA, c.Cert, c.Key
	return login
}
