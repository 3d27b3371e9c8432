package fencing

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// Store is an object store with S3's conditional writes: PUT with If-Match or
// If-None-Match answers 412 when the object is not what was read. Who signs the
// requests is Client's business.
type Store struct {
	Bucket string // URL
	Client *http.Client
}

// The term is the first line of an object's content, and not metadata: an ETag is a
// digest of the content, so an object that is written again with another term in its
// metadata keeps its ETag, and an old master's If-Match would still hold.
func encode(term uint64, body []byte) []byte {
	return append(fmt.Appendf(nil, "term %d\n", term), body...)
}

func decode(content []byte) (term uint64, body []byte, err error) {
	line, body, ok := bytes.Cut(content, []byte("\n"))
	number, ours := bytes.CutPrefix(line, []byte("term "))
	if term, err = strconv.ParseUint(string(number), 10, 64); err != nil || !ok || !ours {
		return 0, nil, fmt.Errorf("its first line %.40q is no term", line)
	}
	return term, body, nil
}

// An Object is what was read, or claimed.
type Object struct {
	Body []byte
	term uint64
	etag string // "" when it is not there
}

// Open has an object for a term, before it is read or written in it: one that was
// written in an older term is written again, unchanged, in this one. What an older
// master still has in flight is refused from then on, because it names an ETag that
// is no more. So nobody reads in term 8 what term 7 changes afterwards.
func (s *Store) Open(ctx context.Context, key string, term uint64) (*Object, error) {
	for {
		o, err := s.get(ctx, key)
		if err != nil {
			return nil, err
		}
		if o.term > term {
			return nil, fmt.Errorf("open %s in term %d: %w: it is of term %d", key, term, ErrNewerMaster, o.term)
		}
		if o.etag == "" || o.term == term {
			return o, nil
		}
		claimed, err := s.put(ctx, key, term, o.etag, o.Body)
		if err != nil {
			return nil, err
		}
		if claimed != nil {
			return claimed, nil
		}
		// Somebody was faster: look who.
	}
}

// Write replaces what Open returned. ErrNewerMaster also stands for another writer
// of the same term: open it again, and see.
func (s *Store) Write(ctx context.Context, key string, term uint64, from *Object, body []byte) (*Object, error) {
	o, err := s.put(ctx, key, term, from.etag, body)
	if err == nil && o == nil {
		err = fmt.Errorf("write %s in term %d: %w, or another writer was faster", key, term, ErrNewerMaster)
	}
	return o, err
}

func (s *Store) get(ctx context.Context, key string) (*Object, error) {
	resp, err := s.do(ctx, http.MethodGet, key, nil, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return &Object{}, nil
	}
	content, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	term, body, err := decode(content)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return &Object{Body: body, term: term, etag: resp.Header.Get("ETag")}, nil
}

// put writes if the object is still what etag says ("": not there); nil if not.
func (s *Store) put(ctx context.Context, key string, term uint64, etag string, body []byte) (*Object, error) {
	header := http.Header{"If-None-Match": {"*"}}
	if etag != "" {
		header.Del("If-None-Match")
		header.Set("If-Match", etag)
	}
	resp, err := s.do(ctx, http.MethodPut, key, header, encode(term, body))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return &Object{Body: body, term: term, etag: resp.Header.Get("ETag")}, nil
	case http.StatusPreconditionFailed, http.StatusConflict, http.StatusNotFound:
		return nil, nil
	}
	return nil, fmt.Errorf("put %s: status %d", key, resp.StatusCode)
}

func (s *Store) do(ctx context.Context, method, key string, header http.Header, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.Bucket+"/"+key, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, key, err)
	}
	if header != nil {
		req.Header = header
	}
	client := s.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, key, err)
	}
	return resp, nil
}
