// What undici, the client of Node, makes of the server: prints "N passed", or what is wrong.
//
//     node undici.mjs http://127.0.0.1:PORT
import assert from "node:assert/strict"
import { Agent, Client, fetch, request, FormData } from "undici"

const origin = process.argv[2]
let passed = 0
const done = (name) => { passed++; if (process.env.SHOW) console.log(name) }
const big = "x".repeat(300000)

const text = async (path, options) => {
  const answer = await request(origin + path, options)
  return { ...answer, text: await answer.body.text() }
}

let answer = await text("/")
assert.equal(answer.statusCode, 200); assert.equal(answer.text, "hello\n"); done("get")
answer = await text("/", { method: "HEAD" })
assert.equal(answer.headers["content-length"], "6"); assert.equal(answer.text, ""); done("head")
answer = await text("/echo", { method: "POST", body: big })
assert.equal(answer.text, big); done("post")
answer = await text("/echo", { method: "POST", body: (async function* () {
  for (let i = 0; i < 100; i++) yield Buffer.from(big.slice(0, 3000)) })() })
assert.equal(answer.text, big); done("a body in chunks")
answer = await text("/stream")
assert.equal(answer.text.length, 2000000); done("an answer in chunks")
assert.deepEqual(answer.trailers, { "x-end": "1" }); done("trailers")
answer = await text("/echo", { method: "POST", body: "late", headers: { expect: "100-continue" } })
  .catch((error) => error)
assert.equal(answer.code, "UND_ERR_NOT_SUPPORTED"); done("undici refuses to expect a 100")
answer = await text("/none")
assert.equal(answer.statusCode, 404); done("404")
answer = await text("/", { method: "DELETE" })
assert.equal(answer.statusCode, 405); assert.equal(answer.headers.allow, "GET, HEAD, OPTIONS")
done("405")
answer = await text("/echo", { method: "POST", body: "x".repeat(2000000) })
assert.equal(answer.statusCode, 413); done("413")
answer = await text("/error")
assert.equal(answer.statusCode, 500); done("500")

const client = new Client(origin, { pipelining: 16 })
const all = await Promise.all(Array.from({ length: 200 }, (_, i) =>
  client.request({ path: "/arguments?i=" + i, method: "GET" }).then((got) => got.body.text())))
assert.deepEqual(all, Array.from({ length: 200 }, (_, i) => String(i))); done("16 pipelined")
await client.close()

const agent = new Agent({ connections: 50 })
const many = await Promise.all(Array.from({ length: 500 }, () =>
  request(origin + "/", { dispatcher: agent }).then((got) => got.body.text())))
assert.ok(many.every((got) => got === "hello\n")); done("50 connections"); await agent.close()

const got = await fetch(origin + "/gzip")
assert.equal(got.headers.get("content-encoding"), "gzip")
assert.equal((await got.text()).length, 50000); done("fetch, gzip")
const form = new FormData()
form.set("a", "1")
form.set("f", new Blob([big]), "f.txt")
assert.equal(await (await fetch(origin + "/form", { method: "POST", body: form })).text(),
  "a=1 f=300000 f.txt"); done("fetch, a form with a file")
const redirected = await fetch(origin + "/redirect")
assert.equal(redirected.url, origin + "/"); done("fetch, redirected")
const part = await fetch(origin + "/files/pattern", { headers: { range: "bytes=10-19" } })
assert.equal(part.status, 206); assert.equal((await part.text()).length, 10); done("fetch, a range")

const upgrading = new Client(origin)
const { socket } = await upgrading.upgrade({ path: "/upgrade", protocol: "shout" })
socket.write("hello\n")
const [shouted] = await new Promise((take) => socket.once("data", (data) => take([String(data)])))
assert.equal(shouted, "HELLO\n"); socket.destroy(); await upgrading.close(); done("upgrade")
const stop = new AbortController()
const aborted = fetch(origin + "/stream", { signal: stop.signal }).then(async (it) => {
  stop.abort(); return it.text() }).catch((error) => error.name)
assert.equal(await aborted, "AbortError"); assert.equal((await text("/")).text, "hello\n")
done("aborted half way")
console.log(passed + " passed")
process.exit(0)
