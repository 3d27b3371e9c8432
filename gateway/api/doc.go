// Package api is what people and programs ask a gateway over HTTPS: REST under
// /v1 with an OpenAPI 3.1 description at /openapi.json, and the events of
// handovers while they happen.
//
// It defines the views (what goes over the wire, as JSON) and the small
// interfaces through which it asks the gateway. It decides nothing about
// mastership.
//
// Guarantees:
//   - Every request comes over mutual TLS; who asked is the certificate's
//     SPIFFE identity. Operators and gateways may do everything; the cluster's
//     other certificates (agents, proxies) see health and nothing else.
//   - Every failure is an RFC 9457 problem with a stable code, and says what to
//     do. SentinelOf turns the code back into the root package's error.
//   - A POST with an Idempotency-Key happens once, also when it is repeated at
//     another gateway: the handover's id is derived from the key.
//   - Every body, list, header, ring and stream has a named maximum. A reader
//     that is too slow misses events and is told so; it never makes the gateway
//     wait or grow.
//
// It does not guarantee that two gateways show the same at one moment: each
// shows what it knows.
package api
