// Package session owns sessions: who is signed in, on what device, at which
// assurance level; the verdict on a token; and the schedule of revocations. It is
// the only one that reads or writes the session store, which is Redis.
//
// Package enforcement owns the rule that says which sessions a policy ends; here
// it is asked, and its word made final. Auth decides who gets a session and when
// an agent's version rises; policy decides what is enforced.
//
// # The store
//
// An agent's sessions live in one of 64 buckets, and all keys of a bucket in one
// slot of a Redis Cluster, so that scripts are atomic and a verdict is one MGET of
// four keys: the session, the account's enforcement (a copy in every bucket), the
// minimum version of the agent, and the bucket's meta. Nothing is cached: what was
// revoked is revoked for every copy of the service.
//
// # What ends a session
//
// Being ended (a tombstone says why for a day), an agent version below the
// minimum, the account's policy, its age and its idle limit. The last four are
// decided at each verdict from what is stored; the sweep and the TTLs only tell
// clients and free memory. A policy that was replaced keeps what it had ended:
// see known.
//
// # A store that forgot
//
// Redis may come back empty or older than it was: a crash, a failover, an old
// snapshot. Every revocation is also an event, of policy, of auth or of this
// service (the scripts put it into an outbox in the bucket), in a stream that
// outlives sessions. The durable consumer applies them in strict order and writes
// each one's position into the meta of every bucket before it acknowledges. So a
// bucket whose meta is behind the consumer has lost something: it is not believed
// (UNAVAILABLE) until the keeper has replayed what it lacks. A bucket without meta
// begins anew: its sessions are over (SESSION_STORE_LOST). Either changes the
// store's generation, at which policy tells every enforcement again.
//
// The consumer's position is asked for when a connection to Redis is made, each
// second, and raised with each event; a revocation is answered once the consumer
// has taken its event.
//
// What admins do belongs into the audit log, which is SQL: an outbox entry says which
// call ended the sessions, or was refused, and auth writes it down.
//
// Not covered, because two things must fail together:
//
//   - Redis forgets a revocation whose event the consumer had not taken: the answer
//     waits for that, but not for longer than Config.PublishWait and SettleWait.
//   - Redis comes back older, and the event stream or the consumer's position is
//     lost in the same moment, or cannot be asked: then a copy believes what it last
//     heard, and one that heard nothing gives no verdict.
//   - Redis comes back older than events are kept (35 days). No session is so old.
package session
