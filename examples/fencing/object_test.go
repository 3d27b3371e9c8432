package fencing

import (
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
)

// bucket speaks the part of S3 that Store needs. Its ETags are digests of the
// content, as S3's are: writing the same content again keeps the ETag.
type bucket struct {
	mu      sync.Mutex
	objects map[string][]byte
}

func etag(content []byte) string { return strconv.Quote(fmt.Sprintf("%x", md5.Sum(content))) }

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	content, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	defer b.mu.Unlock()
	have, there := b.objects[r.URL.Path]
	match := r.Header.Get("If-Match")
	switch {
	case r.Method == http.MethodGet && !there, match != "" && !there:
		http.NotFound(w, r)
	case r.Method == http.MethodGet:
		w.Header().Set("ETag", etag(have))
		_, _ = w.Write(have)
	case match != "" && match != etag(have), r.Header.Get("If-None-Match") == "*" && there:
		w.WriteHeader(http.StatusPreconditionFailed)
	default:
		b.objects[r.URL.Path] = content
		w.Header().Set("ETag", etag(content))
	}
}

func newStore(t *testing.T) *Store {
	server := httptest.NewServer(&bucket{objects: map[string][]byte{}})
	t.Cleanup(server.Close)
	return &Store{Bucket: server.URL + "/orders"}
}

// Rule: a master of term 7 that wakes up when term 8 has begun changes nothing that
// term 8 has looked at, whether or not term 8 has written it.
func TestObjectsRefuseAnOldMaster(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	must := func(o *Object, err error) *Object {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrNewerMaster) {
			t.Errorf("%s: %v", what, err)
		}
	}
	first := must(s.Open(ctx, "1", 7))
	old := must(s.Write(ctx, "1", 7, first, []byte("one")))
	old = must(s.Write(ctx, "1", 7, old, []byte("one, changed")))
	missing := must(s.Open(ctx, "2", 7))
	// Here it freezes, about to write both.

	read := must(s.Open(ctx, "1", 8))
	if string(read.Body) != "one, changed" {
		t.Errorf("read %q", read.Body)
	}
	_, err := s.Write(ctx, "1", 7, old, []byte("too late"))
	refused("what term 8 has read", err)
	must(s.Write(ctx, "2", 8, must(s.Open(ctx, "2", 8)), []byte("two")))
	_, err = s.Write(ctx, "2", 7, missing, []byte("too late"))
	refused("what term 8 has made", err)
	_, err = s.Open(ctx, "1", 7)
	refused("a look of the old master", err)
	if again := must(s.Open(ctx, "1", 8)); string(again.Body) != "one, changed" {
		t.Errorf("term 8 reads %q after it read something else", again.Body)
	}
	must(s.Write(ctx, "1", 8, read, []byte("one, by term 8")))
}
