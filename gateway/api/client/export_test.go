package client

// Left is how often a gateway was left for the next.
func Left(c *Client) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next
}
