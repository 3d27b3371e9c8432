package gossip

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// guardedConn judges the first bytes of what is read before memberlist sees
// any: [label] marker, length, encryption version.
type guardedConn struct {
	net.Conn
	guard   *guard
	inbound bool
	judged  bool
	refused error
	head    []byte // judged, not read yet
}

// Stream framing of memberlist 0.7.0.
const (
	labelMarker   = 244
	encryptMarker = 10
)

// Read is net.Conn's.
func (c *guardedConn) Read(b []byte) (int, error) {
	if !c.judged {
		c.judged = true
		c.refused = c.judge()
	}
	if c.refused != nil {
		return 0, c.refused
	}
	if len(c.head) > 0 {
		n := copy(b, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// Close is net.Conn's.
func (c *guardedConn) Close() error {
	c.guard.untrack(c)
	return c.Conn.Close()
}

func (c *guardedConn) judge() error {
	prefix := 0
	if c.inbound { // the dialing side sends the label, the answer carries none
		prefix = 2 + len(c.guard.label)
	}
	head := make([]byte, prefix+6)
	if n, err := io.ReadFull(c.Conn, head); err != nil {
		if n > 0 {
			c.guard.drop(dropFrame)
		}
		return err
	}
	if why := judgeStream(head, prefix, c.guard.label); why != "" {
		c.guard.drop(why)
		return fmt.Errorf("refuse stream: %s", why)
	}
	c.head = head
	return nil
}

func judgeStream(head []byte, prefix int, label string) reason {
	if prefix > 0 && (head[0] != labelMarker || int(head[1]) != len(label) || string(head[2:prefix]) != label) {
		return dropLabel
	}
	sealed := head[prefix:]
	size := binary.BigEndian.Uint32(sealed[1:5])
	switch {
	case sealed[0] != encryptMarker || sealed[5] != encryptionVersion || size <= sealOverhead:
		return dropFrame
	case size > MaxStream:
		return dropOversized
	}
	return ""
}
