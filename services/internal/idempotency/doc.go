// Package idempotency makes a repeated request harmless: the same request_id
// with the same content is answered with the first answer, for 24 hours.
//
// It owns what is remembered of a request (a row of request_ids) and when that
// is forgotten. It does not own the table: each service has one in its own
// schema, made by its own migration with the statements of [Schema], because
// the row is written in the transaction of the change it belongs to. A change
// and the memory of it are therefore stored together or not at all, whatever is
// killed in between.
//
// # Use
//
//	key, err := idempotency.NewKey(account, method, req.GetRequestId())
//	found, err := idempotency.Once(ctx, db, key, fingerprint, answer, change)
//
// [Once] is [Begin], the change and [Save] in one transaction. Begin claims the id,
// before anything else is locked. Of requests that arrive together, one gets the
// claim and the others wait for its transaction: they find its answer after a
// commit, and one of them the claim after a rollback. Refusals are not remembered,
// since a transaction that ends in an error leaves nothing behind; what was refused
// once is decided anew. When nobody knows whether a COMMIT took effect, the answer
// says how to find out.
//
// # Fingerprints
//
// Whether the content is the same is told by a fingerprint, which callers make.
// [OfMessage] is the SHA-256 of the message. A request that holds a secret needs
// a keyed one: anybody who reads the table could try passwords against a hash.
package idempotency
