// Real clients for tests: each line on stdin is a call, {"id", "method", "args"}; each line on stdout
// its answer, {"id", "result"} or {"id", "error"}. Clients are known by names that the caller gives.

import { createInterface } from "node:readline";
import { createClient, ClientEvent, SyncState, MatrixEventEvent } from "matrix-js-sdk";
import { SlidingSync, SlidingSyncEvent, SlidingSyncState } from "matrix-js-sdk/lib/sliding-sync.js";
import { CryptoEvent, VerificationPhase, VerificationRequestEvent, VerifierEvent, decodeRecoveryKey }
    from "matrix-js-sdk/lib/crypto-api/index.js";
import { oauthMethods } from "./oauth.mjs";

const DEADLINE_MS = 30_000;
const silent = {
    trace() {}, debug() {}, info() {},
    warn: (...words) => console.error("warn", ...words),
    error: (...words) => console.error("error", ...words),
    getChild: () => silent,
};
for (const level of ["log", "debug", "info", "trace"]) console[level] = () => {};

const clients = new Map();

function find(name) {
    const found = clients.get(name);
    if (!found) throw new Error(`there is no client ${name}`);
    return found;
}

/** The first of the emitter's events for which `look` gives something; `look` is asked once at first. */
function until(emitter, events, look, what) {
    return new Promise((resolve, reject) => {
        const stop = () => {
            clearTimeout(timer);
            for (const event of events) emitter.off(event, check);
        };
        const timer = setTimeout(() => {
            stop();
            reject(new Error(`waited in vain for ${what}`));
        }, DEADLINE_MS);
        function check(...args) {
            const found = look(...args);
            if (found) {
                stop();
                resolve(found);
            }
        }
        for (const event of events) emitter.on(event, check);
        check();
    });
}

function requestFrom(client, userId) {
    return until(
        client,
        [CryptoEvent.VerificationRequestReceived],
        (request) => request?.otherUserId === userId && request,
        `a verification request of ${userId}`,
    );
}

function phase(request, wanted) {
    return until(request, [VerificationRequestEvent.Change], () => request.phase === wanted, `phase ${wanted}`);
}

/** Both sides compare emoji and confirm; the emoji that each was shown. */
async function compareEmoji(verifier) {
    const sas = until(verifier, [VerifierEvent.ShowSas], (shown) => shown ?? verifier.getShowSasCallbacks(), "emoji");
    const done = verifier.verify();
    const shown = await sas;
    await shown.confirm();
    await done;
    return shown.sas.emoji.map(([picture]) => picture).join("");
}

const methods = {
    ...oauthMethods,

    /** A client for an account that is logged in already; it syncs from now on. */
    async start({ name, baseUrl, userId, deviceId, accessToken }) {
        const secrets = { key: null };
        const client = createClient({
            baseUrl, userId, deviceId, accessToken, logger: silent, disableVoip: true,
            cryptoCallbacks: {
                getSecretStorageKey: async ({ keys }) => secrets.key && [Object.keys(keys)[0], secrets.key],
                cacheSecretStorageKey: (_keyId, _info, key) => { secrets.key = key; },
            },
        });
        clients.set(name, { client, secrets });
        await client.initRustCrypto({ useIndexedDB: false });
        await client.startClient({ initialSyncLimit: 50, pollTimeout: 10_000 });
        await until(client, [ClientEvent.Sync],
            (state) => state === SyncState.Prepared || state === SyncState.Syncing, "the first sync");
        return {};
    },

    /** A client without encryption that syncs in the way that is asked for. */
    async startPlain({ name, baseUrl, userId, deviceId, accessToken, sliding, lazy }) {
        const client = createClient({ baseUrl, userId, deviceId, accessToken, logger: silent, disableVoip: true });
        clients.set(name, { client });
        const options = { initialSyncLimit: 20, pollTimeout: 10_000, lazyLoadMembers: lazy, threadSupport: true };
        if (sliding) {
            const list = { ranges: [[0, 99]], timeline_limit: 20, required_state: [["*", "*"]] };
            const lists = new Map([["all", list]]);
            options.slidingSync = new SlidingSync(baseUrl, lists, list, client, 10_000);
            const ready = until(options.slidingSync, [SlidingSyncEvent.Lifecycle],
                (state) => state === SlidingSyncState.Complete, "the first sliding sync");
            await client.startClient(options);
            await ready;
        } else {
            await client.startClient(options);
            await until(client, [ClientEvent.Sync],
                (state) => state === SyncState.Prepared || state === SyncState.Syncing, "the first sync");
        }
        return {};
    },

    /** What a client knows of a room, once it has this event. */
    async room({ name, roomId, eventId }) {
        const { client } = find(name);
        await until(client, [ClientEvent.Event, ClientEvent.Sync, "Room.timeline", "Thread.update"],
            () => client.getRoom(roomId)?.findEventById(eventId), `the event ${eventId}`);
        const room = client.getRoom(roomId);
        const state = room.currentState;
        return {
            name: room.name,
            topic: state.getStateEvents("m.room.topic", "")?.getContent().topic ?? null,
            knownMembers: room.getJoinedMembers().map((member) => member.userId).sort(),
            joinedCount: room.getJoinedMemberCount(),
            timeline: room.getLiveTimeline().getEvents().map((event) => event.getId()),
            threads: room.getThreads().map((thread) => thread.id),
        };
    },

    async sendContent({ name, roomId, content, threadId = null }) {
        const { client } = find(name);
        await until(client, [ClientEvent.Room, ClientEvent.Sync], () => client.getRoom(roomId), "the room");
        return { eventId: (await client.sendMessage(roomId, threadId, content)).event_id };
    },

    async stop({ name }) {
        find(name).client.stopClient();
        clients.delete(name);
        return {};
    },

    /** Cross-signing, secret storage and key backup from scratch; the recovery key. */
    async bootstrap({ name }) {
        const { client, secrets } = find(name);
        const crypto = client.getCrypto();
        await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: (request) => request(null) });
        let recoveryKey;
        await crypto.bootstrapSecretStorage({
            setupNewKeyBackup: true,
            createSecretStorageKey: async () => {
                const key = await crypto.createRecoveryKeyFromPassphrase();
                recoveryKey = key.encodedPrivateKey;
                secrets.key = key.privateKey;
                return key;
            },
        });
        return { recoveryKey, isReady: await crypto.isCrossSigningReady() };
    },

    /** A new device takes everything from secret storage and the backup; how many room keys there were. */
    async recover({ name, recoveryKey }) {
        const { client, secrets } = find(name);
        const crypto = client.getCrypto();
        secrets.key = decodeRecoveryKey(recoveryKey);
        await crypto.userHasCrossSigningKeys(client.getUserId(), true);
        await crypto.bootstrapCrossSigning({});
        await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
        await crypto.checkKeyBackupAndEnable();
        const restored = await crypto.restoreKeyBackup();
        return { imported: restored.imported, isReady: await crypto.isCrossSigningReady() };
    },

    async createEncryptedRoom({ name, invite }) {
        const { client } = find(name);
        const { room_id: roomId } = await client.createRoom({
            invite, preset: "private_chat",
            initial_state: [{ type: "m.room.encryption", content: { algorithm: "m.megolm.v1.aes-sha2" } }],
        });
        return { roomId };
    },

    async join({ name, roomId }) {
        await find(name).client.joinRoom(roomId);
        return {};
    },

    /** Sends once the room and everybody in `members` is known. */
    async send({ name, roomId, body, members = [] }) {
        const { client } = find(name);
        await until(client, [ClientEvent.Sync, "RoomState.events"], () => {
            const room = client.getRoom(roomId);
            return room?.hasEncryptionStateEvent() && members.every((m) => room.getMember(m)?.membership === "join");
        }, "the room's members");
        return { eventId: (await client.sendTextMessage(roomId, body)).event_id };
    },

    /** The text of a message, once it can be read. */
    async read({ name, roomId, eventId }) {
        const { client } = find(name);
        const event = await until(client, [ClientEvent.Event, ClientEvent.Sync],
            () => client.getRoom(roomId)?.findEventById(eventId), `the event ${eventId}`);
        await until(event, [MatrixEventEvent.Decrypted],
            () => !event.isBeingDecrypted() && !event.isDecryptionFailure() && event.getContent().body,
            "its decryption");
        return { body: event.getContent().body, wasEncrypted: event.isEncrypted() };
    },

    /** `asking` and `asked` verify each other by emoji: as users in `roomId`, or as devices without it. */
    async verify({ asking, asked, roomId }) {
        const a = find(asking).client, b = find(asked).client;
        const received = requestFrom(b, a.getUserId());
        const request = roomId
            ? await a.getCrypto().requestVerificationDM(b.getUserId(), roomId)
            : await a.getCrypto().requestDeviceVerification(b.getUserId(), b.getDeviceId());
        const incoming = await received;
        await incoming.accept();
        await phase(request, VerificationPhase.Ready);
        const verifier = await request.startVerification("m.sas.v1");
        await phase(incoming, VerificationPhase.Started);
        const shown = await Promise.all([compareEmoji(verifier), compareEmoji(incoming.verifier)]);
        await Promise.all([phase(request, VerificationPhase.Done), phase(incoming, VerificationPhase.Done)]);
        return { shown };
    },

    /** Whether a user and their device are verified; with `patience`, as soon as both are. */
    async trusts({ name, userId, deviceId, patience = DEADLINE_MS }) {
        const crypto = find(name).client.getCrypto();
        const end = Date.now() + patience;
        for (;;) {
            await crypto.getUserDeviceInfo([userId], true);
            const user = (await crypto.getUserVerificationStatus(userId)).isCrossSigningVerified();
            const status = await crypto.getDeviceVerificationStatus(userId, deviceId);
            const device = status?.isVerified() ?? false;
            if ((user && device) || Date.now() > end) return { user, device };
            await new Promise((resolve) => setTimeout(resolve, 100));
        }
    },

    /** The devices that a client knows of a user. */
    async devices({ name, userId }) {
        const found = await find(name).client.getCrypto().getUserDeviceInfo([userId], true);
        return [...(found.get(userId) ?? new Map()).values()]
            .map((device) => ({ deviceId: device.deviceId, dehydrated: device.dehydrated }));
    },

    /** Takes what a dehydrated device has received, if there is one, and leaves a new one behind. */
    async dehydrate({ name, rehydrate = true }) {
        const { client } = find(name);
        const crypto = client.getCrypto();
        if (!(await crypto.isDehydrationSupported())) throw new Error("the server doesn't dehydrate");
        let received = 0;
        const count = (roomKeys) => { received = roomKeys; };
        client.on(CryptoEvent.RehydrationProgress, count);
        await crypto.startDehydration({ rehydrate });
        client.off(CryptoEvent.RehydrationProgress, count);
        return { received };
    },
};

createInterface({ input: process.stdin }).on("line", async (line) => {
    const { id, method, args } = JSON.parse(line);
    let answer;
    try {
        answer = { id, result: await methods[method](args) };
    } catch (error) {
        answer = { id, error: String(error?.stack ?? error) };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
}).on("close", () => process.exit(0));
