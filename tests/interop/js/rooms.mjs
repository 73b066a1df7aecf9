// A walk through rooms as a matrix-js-sdk client takes it, step by step; ends with status 0 if every
// step did what it should. Argument: {"baseUrl", "alice", "bob"}, each {"userId", "deviceId", "accessToken"}.

import assert from "node:assert/strict";
import { createClient, ClientEvent, Direction, RoomEvent, SyncState, ThreadFilterType } from "matrix-js-sdk";

const DEADLINE_MS = 30_000;
const silent = {
    trace() {}, debug() {}, info() {}, warn() {},
    error: (...words) => console.error("error", ...words),
    getChild: () => silent,
};
for (const level of ["log", "debug", "info", "trace", "warn"]) console[level] = () => {};

const { baseUrl, ...accounts } = JSON.parse(process.argv[2]);

/** Asks `look` again after each sync until it gives something. */
function until(client, what, look) {
    return new Promise((resolve, reject) => {
        const events = [ClientEvent.Sync, RoomEvent.Timeline, RoomEvent.MyMembership];
        const stop = () => {
            clearTimeout(timer);
            for (const event of events) client.off(event, check);
        };
        const timer = setTimeout(() => {
            stop();
            reject(new Error(`waited in vain: ${what}`));
        }, DEADLINE_MS);
        function check() {
            const found = look();
            if (found) {
                stop();
                resolve(found);
            }
        }
        for (const event of events) client.on(event, check);
        check();
    });
}

async function started(account) {
    const client = createClient({ baseUrl, ...account, logger: silent, disableVoip: true });
    await client.startClient({ initialSyncLimit: 30, pollTimeout: 5_000, threadSupport: true });
    await until(client, "the first sync", () => client.getSyncState() === SyncState.Prepared
        || client.getSyncState() === SyncState.Syncing);
    return client;
}

async function refused(promise, errcode) {
    await assert.rejects(promise, (error) => {
        assert.equal(error.errcode, errcode);
        return true;
    });
}

const membership = (client, roomId) => client.getRoom(roomId)?.getMyMembership();
const allow = (roomId) => ({ join_rule: "restricted", allow: [{ type: "m.room_membership", room_id: roomId }] });

async function makeSpace(alice) {
    const { room_id: space } = await alice.createRoom({
        name: "Office", preset: "public_chat", room_alias_name: "office", creation_content: { type: "m.space" },
    });
    const rooms = {};
    for (const [order, name] of ["lobby", "club", "workshop"].entries()) {
        const preset = name === "lobby" ? "public_chat" : "private_chat";
        ({ room_id: rooms[name] } = await alice.createRoom({ name, preset }));
        await alice.sendStateEvent(space, "m.space.child", { via: ["hs.test"], order: String(order) }, rooms[name]);
        await alice.sendStateEvent(rooms[name], "m.space.parent", { via: ["hs.test"], canonical: true }, space);
    }
    await alice.sendStateEvent(rooms.club, "m.room.join_rules", allow(space), "");
    await alice.sendStateEvent(rooms.workshop, "m.room.join_rules", { join_rule: "knock" }, "");
    return { space, ...rooms };
}

async function walkIn(alice, bob, { space, lobby, club, workshop }) {
    await refused(bob.joinRoom(club), "M_FORBIDDEN");
    const summary = await bob.getRoomSummary("#office:hs.test");
    assert.equal(summary.room_id, space);
    await bob.joinRoom("#office:hs.test");
    const { rooms } = await bob.getRoomHierarchy(space, 10, 3);
    assert.deepEqual(rooms.map((room) => room.name), ["Office", "lobby", "club", "workshop"]);
    for (const room of [lobby, club]) await bob.joinRoom(room, { viaServers: ["hs.test"] });
    await until(bob, "bob is in the club", () => membership(bob, club) === "join");
    await bob.knockRoom(workshop, { reason: "May I?" });
    await until(bob, "bob's own knock", () => membership(bob, workshop) === "knock");
    const knock = await until(alice, "bob's knock", () =>
        alice.getRoom(workshop)?.getMember(bob.getUserId())?.events.member);
    assert.equal(knock.getContent().reason, "May I?");
    await alice.invite(workshop, bob.getUserId(), { reason: "Come in" });
    await until(bob, "the invite", () => membership(bob, workshop) === "invite");
    await bob.joinRoom(workshop);
    await until(alice, "bob is in the workshop", () =>
        alice.getRoom(workshop).getMember(bob.getUserId())?.membership === "join");
}

const text = (body, relation) => ({ msgtype: "m.text", body, ...(relation && { "m.relates_to": relation }) });
const said = async (client, room, content) => (await client.sendEvent(room, "m.room.message", content)).event_id;

async function talk(alice, bob, room) {
    const root = await said(alice, room, text("Where is the cheese?"));
    const typo = await said(alice, room, text("In the frigde"));
    await said(alice, room, {
        ...text("* In the fridge", { rel_type: "m.replace", event_id: typo }), "m.new_content": text("In the fridge"),
    });
    const reaction = (await bob.sendEvent(room, "m.reaction",
        { "m.relates_to": { rel_type: "m.annotation", event_id: root, key: "🧀" } })).event_id;
    for (const body of ["Behind the door", "我喜歡奶酪"]) {
        await said(bob, room, text(body, { rel_type: "m.thread", event_id: root, is_falling_back: true,
            "m.in_reply_to": { event_id: root } }));
    }
    const edited = await until(bob, "the edit", () => {
        const event = bob.getRoom(room)?.findEventById(typo);
        return event?.getContent().body === "In the fridge" && event;
    });
    assert.ok(edited.replacingEvent());
    const { chunk } = await bob.createThreadListMessagesRequest(room, null, 10, Direction.Backward, ThreadFilterType.All);
    assert.equal(chunk.length, 1);
    assert.equal(chunk[0].event_id, root);
    assert.equal(chunk[0].unsigned["m.relations"]["m.thread"].count, 2);
    const { events: thread } = await alice.relations(room, root, "m.thread", null);
    assert.equal(thread.length, 2);
    const { events: reactions } = await alice.relations(room, root, "m.annotation", "m.reaction");
    assert.deepEqual(reactions.map((event) => event.getRelation().key), ["🧀"]);
    await bob.redactEvent(room, reaction, undefined, { reason: "No" });
    await until(alice, "the redaction", () => alice.getRoom(room)?.findEventById(reaction)?.isRedacted());
    assert.equal((await alice.relations(room, root, "m.annotation", "m.reaction")).events.length, 0);
    await find(bob, room, "fridge", 1);
    await find(bob, room, "奶酪", 1);
    await find(bob, room, "elephant", 0);
}

async function find(client, room, term, count) {
    const end = Date.now() + DEADLINE_MS;
    for (;;) {
        const answer = await client.search({ body: { search_categories: { room_events: {
            search_term: term, filter: { rooms: [room] }, order_by: "recent",
        } } } });
        const found = answer.search_categories.room_events.count;
        if (found >= count || Date.now() > end) {
            assert.ok(count === 0 ? found === 0 : found >= count, `${term}: ${found} results`);
            return;
        }
        await new Promise((resolve) => setTimeout(resolve, 100));
    }
}

async function replace(alice, bob, room) {
    await bob.setRoomTag(room, "m.favourite", { order: 0.3 });
    const { replacement_room: replacement } = await alice.upgradeRoom(room, "12");
    await until(bob, "the tombstone", () => bob.getRoom(room)?.currentState
        .getStateEvents("m.room.tombstone", "")?.getContent().replacement_room === replacement);
    await bob.joinRoom(replacement, { viaServers: ["hs.test"] });
    const joined = await until(bob, "the replacement", () => membership(bob, replacement) === "join"
        && bob.getRoom(replacement));
    assert.equal(joined.currentState.getStateEvents("m.room.create", "").getContent().predecessor.room_id, room);
    assert.equal(joined.name, "lobby");
    await until(bob, "the tag", () => bob.getRoom(replacement).tags["m.favourite"]?.order === 0.3);
    return replacement;
}

async function goAway(alice, bob, rooms) {
    for (const room of rooms) {
        await bob.leave(room);
        await until(alice, "bob is gone", () => alice.getRoom(room)?.getMember(bob.getUserId())?.membership === "leave");
        await bob.forget(room);
    }
    assert.deepEqual((await bob.getJoinedRooms()).joined_rooms.filter((room) => rooms.includes(room)), []);
    await refused(bob.roomInitialSync(rooms[0], 1), "M_FORBIDDEN");
}

const alice = await started(accounts.alice);
const bob = await started(accounts.bob);
const made = await makeSpace(alice);
await walkIn(alice, bob, made);
await talk(alice, bob, made.workshop);
const replacement = await replace(alice, bob, made.lobby);
await goAway(alice, bob, [made.workshop, made.club, replacement]);
console.error("walked through");
process.exit(0);
