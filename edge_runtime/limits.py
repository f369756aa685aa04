"""Every bound of the runtime, with its unit in its name and its source beside it.

Sources: "CF" is Cloudflare's documented or coded limit, "LMDB" a property of the storage engine, "ours" a choice made
here. Sizes are bytes.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# Events
CPU_MS_DEFAULT: Final = 30_000  # CF: CPU per event on the paid plan, `limits.cpu_ms`
CPU_MS_MAX: Final = 300_000  # CF
WAIT_UNTIL_MS: Final = 30_000  # CF: after the response or the disconnect
INVOCATION_DEPTH_MAX: Final = 32  # CF: of workers that call workers within one request
SUBREQUESTS_DEFAULT: Final = 10_000  # CF: paid plan, `limits.subrequests`
OPEN_CONNECTIONS_MAX: Final = 6  # CF: outgoing, per event; further ones are queued
SCHEDULED_WALL_MS: Final = 15 * 60_000  # CF: cron handlers
CRON_STARTS_MAX: Final = 4  # ours: of a cron handler for one time, where the process ended while it ran
ALARM_WALL_MS: Final = 15 * 60_000  # CF

# HTTP
REQUEST_BODY_MAX: Final = 100 * MIB  # CF: answered with 413
REQUEST_URL_MAX: Final = 16 * KIB  # CF: answered with 414
REDIRECTS_MAX: Final = 20  # Fetch standard: followed by one fetch
FORM_PARTS_MAX: Final = 10_000  # ours: fields of one form
FORM_PART_HEADERS_MAX: Final = 16 * KIB  # ours: head of one part of a multipart form
REQUEST_HEADERS_MAX: Final = 128 * KIB  # CF: answered with 431
PEEK_MAX: Final = 16 * KIB  # ours: bytes looked at to choose a worker
PEEK_TIMEOUT_S: Final = 10.0  # ours: for the first bytes of a connection to arrive
KEEP_ALIVE_TIMEOUT_S: Final = 75.0  # ours: idle connections, as common servers have it
WRITE_TIMEOUT_S: Final = 30.0  # ours: a client that does not read is cut off after this
REQUEST_HEADERS_COUNT_MAX: Final = 1000  # ours: answered with 431
REQUEST_HEAD_S: Final = 20.0  # ours: for a head to arrive, from its first byte on; answered with 408
REQUEST_BODY_WINDOW_S: Final = 30.0  # ours: of waiting for a body, in which so much of it must come; answered with 408
REQUEST_BODY_WINDOW_MIN: Final = KIB  # ours
CHUNK_OVERHEAD_RATIO: Final = 16  # ours: bytes around the chunks of a body for each byte in them; 5 where each has one
REQUESTS_PER_CONNECTION_MAX: Final = 1_000_000  # ours: then the answer closes it
UNREAD_BODY_MAX: Final = 256 * KIB  # ours: of a body that no handler reads, to keep its connection
UNREAD_BODY_S: Final = 1.0  # ours: the same, and for a client to take in the answer before its connection closes
CONNECTION_TICK_S: Final = 0.5  # ours: between two looks for HTTP/1 connections that are over a time limit
HALF_CLOSED_S: Final = 60.0  # ours: for the answer to a client that sends nothing more and cannot be probed
BODY_CHUNK: Final = 64 * KIB  # ours: piece size of streamed bodies

# WebSockets
WEBSOCKET_MESSAGE_MAX: Final = 32 * MIB  # CF: received; closed with 1009
WEBSOCKET_UNHANDLED_MAX: Final = 64  # ours: messages of one connection read ahead of the script
WEBSOCKET_UNHANDLED_BYTES: Final = MIB  # ours: the same, in bytes; one message may be larger
WEBSOCKET_UNSENT_MAX: Final = 64 * MIB  # ours: waiting for a client that is slow to read; then it is cut off
WEBSOCKET_UNSENT_PAUSE: Final = MIB  # ours: with more waiting, nothing is read from that client
WEBSOCKET_OPEN_S: Final = 60.0  # ours: for a server to answer the handshake of WebSocket.new(url)
WEBSOCKET_CLOSE_S: Final = 10.0  # ours: for the client to answer a Close frame
WEBSOCKET_PROBE_S: Final = 60  # ours: of silence before TCP asks whether a client is still there
WEBSOCKET_ATTACHMENT_MAX: Final = 16_384  # CF
WEBSOCKET_TAGS_MAX: Final = 10  # CF: of one hibernatable socket
WEBSOCKET_TAG_MAX: Final = 256  # CF: characters
WEBSOCKET_AUTO_RESPONSE_MAX: Final = 2048  # CF: of request and response each
WEBSOCKET_EVENT_TIMEOUT_MAX_MS: Final = 604_800_000  # CF
FACET_NAME_MAX: Final = 256  # CF: characters
FACET_DEPTH_MAX: Final = 4  # CF: objects within objects, the outermost included
HIBERNATABLE_SOCKETS_MAX: Final = 32_768  # CF: of one Durable Object

# KV
KV_KEY_MAX: Final = 512  # CF
KV_VALUE_MAX: Final = 25 * MIB  # CF
KV_METADATA_MAX: Final = 1024  # CF: as JSON
KV_TTL_MIN_S: Final = 60  # CF
KV_CACHE_TTL_MIN_S: Final = 30  # CF: code; documentation said 60
KV_LIST_MAX: Final = 1000  # CF
KV_BULK_GET_MAX: Final = 100  # CF
KV_BULK_GET_BYTES_MAX: Final = 25 * MIB  # CF
KV_BULK_PUT_MAX: Final = 10_000  # CF: pairs per `kv bulk put`
KV_INLINE_MAX: Final = 1536  # ours: larger values lie apart from their record; keeps records out of overflow pages
KV_LIST_SCAN_MAX: Final = 10_000  # ours: records looked at for one page, expired ones included
KV_SWEEP_BATCH: Final = 500  # ours: expired entries deleted per round
KV_SWEEP_MAX_MS: Final = 60_000  # ours: between two looks at what has expired

# Assets
ASSET_CACHED_MAX: Final = 64 * KIB  # ours: files up to this size are read at once and kept in memory
ASSET_CACHE_BYTES: Final = 8 * MIB  # ours: such files together, per isolate
ASSET_CACHE_FILES: Final = 4096  # ours: files whose hash is remembered, per isolate
ASSET_READ: Final = 4 * BODY_CHUNK  # ours: read per trip to a thread
ASSET_RULES_FILE_MAX: Final = MIB  # ours: `_headers`, `_redirects`, `.assetsignore`
ASSET_RULE_LINE_MAX: Final = 2000  # CF
ASSET_HEADER_RULES_MAX: Final = 100  # CF
ASSET_STATIC_REDIRECTS_MAX: Final = 2000  # CF
ASSET_DYNAMIC_REDIRECTS_MAX: Final = 100  # CF
ASSET_IGNORE_RULES_MAX: Final = 1000  # ours
ASSET_WORKER_FIRST_RULES_MAX: Final = 100  # CF

# Durable Objects
OBJECT_KEY_MAX: Final = 2048  # CF
OBJECT_VALUE_MAX: Final = 2 * 1000 * 1000  # CF: SQLite-backed classes, key and value together
OBJECT_KV_VALUE_MAX: Final = 131_072  # CF: classes created with new_classes
OBJECT_KV_VALUE_SPARE: Final = 34  # CF: what the encoding of such a value may add
OBJECT_KEYS_PER_CALL_MAX: Final = 128  # CF
OBJECT_NAMES_KEPT: Final = 1024  # ours: names of objects whose ids an isolate remembers
OBJECT_CACHE_ENTRIES: Final = 256  # ours: values an active object keeps decoded
OBJECT_CACHE_VALUE_MAX: Final = 2 * KIB  # ours: stored size of such a value
OBJECT_IDLE_MS: Final = 10_000  # CF: workerd's local eviction of idle objects
BLOCK_CONCURRENCY_MS: Final = 30_000  # CF
ALARM_RETRIES_MAX: Final = 6  # CF: counted retries, then the alarm is dropped
ALARM_RETRY_FIRST_MS: Final = 2_000  # CF: doubles with each retry
ALARM_BACKOFF_EXPONENT_MAX: Final = 9  # CF
ALARM_JITTER: Final = 0.25  # CF: added, as a share of the delay
ALARMS_AT_ONCE_MAX: Final = 64  # ours: alarms and timers in flight per isolate

ACTOR_QUEUE_MAX: Final = 10_000  # ours: messages to one actor that are not answered yet; more are refused
ACTOR_SWEEP_S: Final = 1.0  # ours: how often idle actors are looked for
ACTOR_WAVE: Final = 256  # ours: evictions after which their memory is returned
ACTOR_WAVE_SWEEPS_MAX: Final = 10  # ours: sweeps that evict without a pause, after which it is returned all the same
STORAGE_TIMEOUT_S: Final = 30.0  # CF: a write that takes longer resets the object

# Workflows
WORKFLOW_NAME_MAX: Final = 64  # CF
INSTANCE_ID_MAX: Final = 100  # CF: code; older documentation said 64
STEP_NAME_MAX: Final = 256  # CF
STEP_RESULT_MAX: Final = MIB  # CF
EVENT_PAYLOAD_MAX: Final = MIB  # CF
EVENT_TYPE_MAX: Final = 100  # CF
JOURNAL_PART_BYTES: Final = MIB  # ours: read of a journal before the isolate's other tasks have their turn
STEPS_DEFAULT: Final = 10_000  # CF: `limits.steps`
STEPS_MAX: Final = 1_000_000  # ours; CF: 25_000
STEP_RETRIES_DEFAULT: Final = 5  # CF
STEP_RETRY_DELAY_MS: Final = 1_000  # CF: code; documentation says 10 s
STEP_TIMEOUT_MS: Final = 10 * 60_000  # CF: per attempt
SLEEP_MAX_MS: Final = 365 * 24 * 3600 * 1000  # CF
CREATE_BATCH_MAX: Final = 100  # CF
DELETE_BATCH_MAX: Final = 100  # CF
ADDRESSED_ID_MAX: Final = 271  # CF: ids of instances that schedules have created are longer than others
AWAITED_SHOWN_MAX: Final = 10  # ours: of what an instance waits for, in its status
INSTANCE_RETENTION_MS: Final = 30 * 24 * 3600 * 1000  # CF: finished instances
INSTANCE_IDLE_MS: Final = 10_000  # ours: kept in memory after the last step activity; CF: 5 minutes
INSTANCES_PER_PAGE: Final = 25  # CF: listed at once by default
HIBERNATE_SLEEP_MS: Final = 1_000  # ours: an instance that sleeps so long leaves memory at once
JOURNAL_BLOCK_SMALL: Final = 256  # ours: stored bytes below which a journal's last block is extended
STARTS_AT_ONCE_MAX: Final = 16  # ours: new instances that begin before what they write is waited for
STARTS_KNOWN_MAX: Final = 256  # ours: new instances that wait to begin and are known in memory; the others are on disk
WORKFLOW_RESUME_MS: Final = 10_000  # ours: a running instance whose process died is resumed no later than this
START_HELD_MS: Final = 50  # ours: so long the start of an attempt may wait to be written together with its result
STEP_STREAM_CHUNK_MAX: Final = 16 * MIB  # CF: of a stream that a step returns, what it gives at a time
STEP_STREAM_PREVIEW_CHARS: Final = 1024  # CF: shown of a text that such a stream has
STEP_STREAM_PIECE: Final = 256 * KIB  # CF: as which such a stream is stored
INSTANCE_STREAMS_MAX: Final = 1024 * MIB  # CF: storage of an instance
INSTANCE_DEATHS_MAX: Final = 5  # ours: isolates that an instance has ended, no step done in between; then it fails
INSTANCE_DEATHS_DOUBTED_MAX: Final = 10  # ours: the same, where others or somebody outside may have done it
THREAD_INTERRUPT_MS: Final = 1_000  # ours: for a blocking callback to end once its time is over
RUNNING_INSTANCES_MAX: Final = 1_000_000  # ours: `concurrency.limit`
QUEUED_LOOK_MS: Final = 10 * 60_000  # ours: between two looks of an instance whose turn has not come
ROLLBACK_STALL_MS: Final = 30_000  # ours: for a script that replays to name its next rollback handler
REPLAY_STALL_MS: Final = 1_000  # ours: a result is held back no longer for a step that a changed script left out
ERROR_TEXT_MAX: Final = 16 * KIB  # ours: characters stored of an error's message, and of its traceback
RETRY_DELAY_ANSWER_MS: Final = 5_000  # CF: for a delay function to answer

# Configuration
VARS_MAX: Final = 128  # CF
VAR_BYTES_MAX: Final = 5 * KIB  # CF
WORKER_NAME_MAX: Final = 63  # CF: a label of its workers.dev host name
SUBREQUESTS_MAX: Final = 10_000_000  # CF: `limits.subrequests`
BLOCKED_MS_MIN: Final = 1_000  # ours: `[edge] blocked_ms`; below it, ordinary garbage collection looks like blocking
BLOCKED_MS_MAX: Final = 3_600_000  # ours
INSTANCES_MAX: Final = 64  # ours: `[edge] instances`, isolates of one worker
MEMORY_MB_DEFAULT: Final = 4096  # ours: `[edge] memory_mb`, private writable memory of an isolate (RLIMIT_DATA)
MEMORY_MB_MIN: Final = 128  # CF: memory of an isolate there
MEMORY_MB_MAX: Final = 1024 * 1024  # ours
CONFIG_BYTES_MAX: Final = MIB  # ours: a configuration file
CONFIG_DEPTH_MAX: Final = 64  # ours: nesting inside it

# Store
LMDB_KEY_MAX: Final = 511  # LMDB 0.9
STORE_KEY_MAX: Final = 4 * KIB  # ours: logical keys, see store.long_keys
STORE_VALUE_MAX: Final = 2**31 - 1  # ours: bytes of one stored value
STORE_CHUNK: Final = 64 * KIB - 16  # ours: larger values are stored in pieces; 16 pages less LMDB's page header
STORE_FREE_MIN: Final = 16 * MIB  # ours: with less space on the disk, commits are refused before they begin
STORE_SWEEP_S: Final = 30.0  # ours: between looks for readers that died without a word, when there is no traffic
STORE_SWEEP_GROUPS: Final = 1000  # ours: the same, in commits, under traffic
MAP_SIZE: Final = 64 * 1024 * MIB  # ours: sparse; doubled by the committer when it is full
VALUE_DEPTH_MAX: Final = 256  # ours: nesting of stored values, see store.values
COMMIT_BATCHES_MAX: Final = 4096  # ours: batches merged into one transaction
COMMIT_GATHER_S: Final = 0.01  # ours: how long a busy event loop gathers batches before it hands them to the committer

# Scripts of asyncio's flavour, and WSGI apps
ASYNCIO_THREADS_MAX: Final = 32  # asyncio: its default executor on large machines
ASYNCIO_CLOSE_S: Final = 1.0  # ours: for cancelled tasks to end when an isolate closes
WSGI_THREADS_MAX: Final = 40  # ours: calls of WSGI apps at a time in one isolate
ASGI_BUFFER_MAX: Final = 64 * KIB  # ours: of a streamed response, before the app waits for the client

# Processes
DRAIN_GRACE_S: Final = 10.0  # ours: production; development uses DEV_DRAIN_GRACE_S
DEV_DRAIN_GRACE_S: Final = 1.0  # ours
ISOLATE_IDLE_S: Final = 60.0  # ours: without connection, event or timer soon due
ISOLATE_IDLE_GROWN_S: Final = 15.0  # ours: the same, where memory has grown; more than OBJECT_IDLE_MS
ISOLATE_GROWN_MB: Final = 12  # ours: of resident memory since the isolate began to serve
BLOCKED_TOLD_S: Final = 1.0  # ours: of an event loop that answers nothing, before it is told where it hangs
STARTUP_TOLD_S: Final = 5.0  # ours: of a script's import, before it is told where that is
BLOCKED_MS_DEFAULT: Final = 30_000  # ours: an event loop that waits so long and answers nothing is killed
THREADS_MAX: Final = 40  # ours: worker threads per isolate for sync handlers, steps and WSGI
SCRIPT_THREADS_MAX: Final = 256  # ours: threads of an isolate, before its script may start no more; CF: it has none
RUNTIME_THREADS_SPARE: Final = 128  # ours: above that, for the runtime's own
SCRIPT_PROCESSES_MAX: Final = 64  # ours: children of an isolate, before its script may start no more
FORKED_PROCESSES_MAX: Final = 4  # ours: the same of a process that it has forked, whose own may fork none
PROCESS_THREADS_MAX: Final = 1024  # ours: an isolate with more, which native code has made, is killed
LEDGER_HOURS_KEPT_DAYS: Final = 35  # ours: usage of so many days is kept by hour; older, by day
LEDGER_DAYS_KEPT: Final = 400  # ours: usage older than that is removed
LEDGER_COMPACTED_ROWS: Final = 500  # ours: rows of the ledger that are rewritten in one batch
LEDGER_COMPACT_S: Final = 10.0  # ours: after the start of an isolate, before it looks for old usage; then every hour
LEDGER_FLUSH_S: Final = 1.0  # ours: usage that a loss of power takes is at most this old
LEDGER_RIDE_S: Final = 0.5  # ours: between commits of other things that usage is written with
HEARTBEAT_S: Final = 0.4  # ours: less than CPU_KILL_SLACK_MS, so that no event is met late
STARTUP_MS: Final = 60_000  # ours: import of a worker's script, wall time
LOAD_ATTEMPTS_MAX: Final = 3  # ours: imports of a version to be deployed, where those before were ended from outside
STARTUP_CPU_MS_DEFAULT: Final = 10_000  # ours: the same, CPU time, `[edge] startup_cpu_ms`; CF: 1 s
STARTUP_CPU_MS_MAX: Final = 60_000  # ours
LEFT_OVER_WAIT_S: Final = 10.0  # ours: for isolates of a server that was killed to end
START_WAIT_S: Final = 60.0  # ours: a connection waits at most so long for its isolate to start
RUNTIME_MEMORY_SPARE: Final = 64 * MIB  # ours: above memory_mb, for the stacks of the runtime's own threads
MEMORY_REPLACE_SHARE: Final = 0.9  # ours: an isolate that uses more of its memory_mb is replaced, after its requests
EXIT_GRACE_S: Final = 1.5  # ours: between the end of a drain's grace and SIGKILL; the usage is written in it
CPU_TICK_MS: Final = 20  # ours: CPU time of an isolate between two looks whether an event is over its limit
CPU_KILL_SLACK_MS: Final = 400  # ours: above limits.cpu_ms, where the soft stop has failed, before SIGKILL
INGRESS_PENDING_MAX: Final = 1024  # ours: connections that have not yet sent what chooses their worker
CRASH_BACKOFF_FIRST_S: Final = 0.5  # ours: doubles with each crash within CRASH_WINDOW_S
CRASH_BACKOFF_MAX_S: Final = 30.0  # ours
CONTAINED_CRASH_BACKOFF_S: Final = 0.1  # ours: the same, where what crashed is put off by itself and the others are not
ACTOR_DEATHS_KEPT: Final = 256  # ours: actors of a worker whose code has ended isolates, those of the last deaths
CRASH_WINDOW_S: Final = 60.0  # ours
FRAME_MAX: Final = 16 * MIB  # ours: one CBOR frame between processes
RPC_VALUE_MAX: Final = 32 * MIB  # CF: arguments or result of a call, encoded
PEER_FRAME_MAX: Final = RPC_VALUE_MAX + MIB  # ours: one CBOR frame between isolates
PEER_QUEUE_MAX: Final = 64 * MIB  # ours: waiting bytes for another isolate; further calls are refused
PEER_UNSENT_MAX: Final = 4 * PEER_QUEUE_MAX  # ours: the same, of answers too; then the link is given up
PEER_WINDOW: Final = 256 * KIB  # ours: of a streamed body, sent and not consumed yet
PEER_HOLD_S: Final = 30.0  # ours: for calls to an actor that moves or whose worker starts
MOVE_PATIENCE_S: Final = 5.0  # ours: for calls that have begun in an actor that moves to another isolate
FRAME_DEPTH_MAX: Final = 100  # ours: nesting inside a frame
DESCRIPTORS_PER_FRAME_MAX: Final = 16  # ours; Linux passes up to 253 at once
SEND_SOON_MAX: Final = MIB  # ours: waiting bytes of logs and pongs for a process that does not read
ERROR_DETAIL_MAX: Final = 64 * KIB  # ours: tail of a traceback passed between processes, characters
PINNED_LOOK_S: Final = 60.0  # ours: between two looks for versions of workers that nothing is pinned to any more
TIMER_LOOK_S: Final = 1.0  # ours: between two looks for due timers of workers without a running isolate
BUNDLE_MAX: Final = 256 * MIB  # ours: a deployed worker, packed
BUNDLE_UNPACKED_MAX: Final = 1024 * MIB  # ours
BUNDLE_FILES_MAX: Final = 20_000  # CF: static assets per version
DEPLOYMENTS_KEPT: Final = 5  # ours: versions of a worker on disk
OUTPUT_LINES_MAX: Final = 10_000  # ours: lines waiting for a terminal or pipe that does not take them
PRINTED_LINE_MAX: Final = 16 * KIB  # ours: characters; longer lines that scripts print are cut into several
