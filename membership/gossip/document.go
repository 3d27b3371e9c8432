package gossip

import (
	"bytes"
	"errors"
	"fmt"
)

// learn notes that a member holds documents, and asks for those not known.
func (p *Pool) learn(holder string, hashes []Hash) {
	if p.opts.ValidateDocument == nil || holder == p.opts.Name {
		return
	}
	for _, h := range hashes {
		if p.documents.knows(h) {
			continue
		}
		if !p.fetch.want(h, holder) {
			p.drop(dropQueue, nil, "document announcement")
		}
	}
}

// ask requests one document from one member; the fetcher calls it.
func (p *Pool) ask(h Hash, holder string, done func(error)) {
	node, ok := p.presence.node(holder)
	if !ok {
		done(errors.New("holder is not a member"))
		return
	}
	p.stream(streamSend{node, encodeHashes(kindRequest, p.opts.Name, []Hash{h}), done})
}

// answer sends the documents that a member asked for. The answer goes to the
// address that the member is known by, never to one in the request.
func (p *Pool) answer(asker string, hashes []Hash) {
	node, ok := p.presence.node(asker)
	if !ok || asker == p.opts.Name {
		p.drop(dropUnknown, nil, "document request")
		return
	}
	for _, h := range hashes {
		if raw, ok := p.documents.get(h); ok {
			p.stream(streamSend{node: node, msg: encodeRaw(kindDocument, pathDirect, raw)})
		}
	}
}

func (p *Pool) judgeDocuments() {
	for {
		select {
		case raw := <-p.bodies:
			if p.ctx.Err() != nil {
				return
			}
			p.judgeDocument(raw)
		case <-p.ctx.Done():
			return
		}
	}
}

func (p *Pool) judgeDocument(raw []byte) {
	h := HashOf(raw)
	if p.opts.ValidateDocument == nil {
		return
	}
	if p.documents.knows(h) {
		p.fetch.settle(h)
		return
	}
	if err := p.opts.ValidateDocument(raw); err != nil {
		p.fetch.pause(h)
		if errors.Is(err, ErrStale) {
			p.count(dropStale)
		} else {
			p.drop(dropInvalid, err, "document")
		}
		return
	}
	fresh, evicted := p.documents.add(h, raw)
	p.fetch.settle(h)
	p.evicted(evicted)
	if !fresh {
		return
	}
	p.metrics.documents.Inc()
	msg := encodeHashes(kindAnnounce, p.opts.Name, []Hash{h})
	p.enqueue("d"+string(h[:]), msg)
	p.relay(msg)
	p.opts.OnDocument(h, raw)
}

// Publish gives a document to the pool and returns its hash: the hash is
// announced like a statement, and who lacks the document asks a holder for it
// over a stream. It does not wait for delivery, and OnDocument is not called
// here. It returns ErrTooLarge, ErrNoDocuments, ErrClosed, or the error of
// ValidateDocument, wrapped.
func (p *Pool) Publish(document []byte) (Hash, error) {
	switch {
	case p.closed.Load():
		return Hash{}, ErrClosed
	case p.opts.ValidateDocument == nil:
		return Hash{}, ErrNoDocuments
	case len(document) == 0 || len(document) > MaxDocument:
		return Hash{}, fmt.Errorf("publish document of %d bytes: %w", len(document), ErrTooLarge)
	}
	raw := bytes.Clone(document)
	if err := p.opts.ValidateDocument(raw); err != nil {
		return Hash{}, fmt.Errorf("publish document: %w", err)
	}
	h := HashOf(raw)
	fresh, evicted := p.documents.add(h, raw)
	p.fetch.settle(h)
	p.evicted(evicted)
	if fresh {
		msg := encodeHashes(kindAnnounce, p.opts.Name, []Hash{h})
		p.enqueue("d"+string(h[:]), msg)
		p.direct(msg, p.opts.DirectStreams)
	}
	return h, nil
}

// Document returns a document that is kept. The bytes must not be changed.
func (p *Pool) Document(h Hash) ([]byte, bool) { return p.documents.get(h) }

// ForgetDocuments removes the documents whose hash matches and returns how many
// they were. They are not asked for again.
func (p *Pool) ForgetDocuments(match func(Hash) bool) int { return p.documents.forget(match) }
