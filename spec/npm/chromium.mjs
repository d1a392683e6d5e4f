// What Chromium makes of the server and the examples: prints "N passed", or what is wrong.
//
//     node chromium.mjs PROGRAM http://SERVER http://FILES http://LIVE DIRECTORY-FOR-SCREENSHOTS
import assert from "node:assert/strict"
import { chromium } from "playwright-core"

const [program, origin, files, live, shots] = process.argv.slice(2)
let passed = 0
const done = (name) => { passed++; if (process.env.SHOW) console.log(name) }
const wrong = []
const browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox"] })
const open = async (url, options = {}) => {
  const page = await browser.newPage(options)
  page.on("pageerror", (error) => wrong.push(String(error)))
  page.on("console", (message) => { if (message.type() === "error") wrong.push(message.text()) })
  await page.goto(url)
  return page
}
const sizes = { desk: { width: 1000, height: 700 }, phone: { width: 390, height: 760 } }

for (const colorScheme of ["light", "dark"]) for (const [kind, viewport] of Object.entries(sizes)) {
  let page = await open(files, { colorScheme, viewport })
  const wide = await page.evaluate(() => document.documentElement.scrollWidth)
  assert.ok(wide <= viewport.width, "the listing is wider than the window")
  await page.screenshot({ path: `${shots}/files-${colorScheme}-${kind}.png` })
  await page.close()
  page = await open(live, { colorScheme, viewport })
  await page.waitForFunction(() => document.querySelectorAll("path").length === 9
    && document.querySelector("path").getAttribute("d").split("L").length > 2)
  const left = await page.evaluate(() => document.querySelector("main").getBoundingClientRect().right
    - document.querySelector("section:last-child").getBoundingClientRect().right)
  const widths = await page.evaluate(() => new Set(Array.from(
    document.querySelectorAll("section:not(:first-child)"), (it) => Math.round(it.clientWidth))).size)
  assert.deepEqual([Math.round(left), widths], [0, 1], "the last row of counters is not full")
  await page.screenshot({ path: `${shots}/live-${colorScheme}-${kind}.png` })
  await page.close()
  done(`${colorScheme} ${kind}`)
}

let page = await open(live)
await page.click("button")
await page.waitForFunction(() => parseFloat(document.querySelector("b").textContent) > 10)
await page.click("button"); done("load from the page")
await page.close()

page = await open(files)
await page.click("text=a folder")
assert.equal(new URL(page.url()).pathname, "/a%20folder/"); done("into a folder")
await page.click("text=page.html")
assert.equal(await page.textContent("h1"), "a page"); done("to a page")
await page.reload()
assert.equal(await page.textContent("h1"), "a page"); done("not modified")
await page.close()

page = await open(origin + "/page")
const ask = (fn) => page.evaluate(fn)
assert.equal(await ask(() => fetch("/stream").then((it) => it.text()).then((it) => it.length)),
  2000000); done("fetch in chunks")
assert.equal(await ask(() => { const form = new FormData(); form.set("a", "1")
  form.set("f", new Blob(["x".repeat(300000)]), "f.txt")
  return fetch("/form", { method: "POST", body: form }).then((it) => it.text()) }),
"a=1 f=300000 f.txt"); done("a form with a file")
assert.equal(await ask(() => fetch("/gzip").then((it) => it.text()).then((it) => it.length)), 50000)
done("gzip")
assert.equal(await ask(() => new Promise((take) => { const source = new EventSource("/events")
  source.addEventListener("named", (event) => { source.close(); take(event.data) }) })), "two\nlines")
done("events")
assert.equal(await ask(() => Promise.all(Array.from({ length: 100 }, (_, i) =>
  fetch("/arguments?i=" + i).then((it) => it.text()))).then((all) => all.join() ===
  Array.from({ length: 100 }, (_, i) => i).join())), true); done("100 requests at once")
await browser.close()
assert.deepEqual(wrong, [])
console.log(passed + " passed")
