// Run by llama_resume.sh in a directory with node_modules:
//   save MODEL TASKS STATES COPIES NAME...   states of one context to STATES and to COPIES,
//                                            what follows without a state to COPIES/NAME.json
//   resume MODEL TASKS STATES COPIES NAME... the same must follow each state of STATES
// A NAME is TYPE or TYPE-trans: the type of the cache, V transposed.
import {readFileSync, writeFileSync} from "node:fs";
import process from "node:process";
import {getLlama, LlamaLogLevel} from "node-llama-cpp";

const [mode, modelPath, tasks, states, copies, ...names] = process.argv.slice(2);
const CELLS = 500;    // tokens of the context
const CONTINUE = 32;  // tokens that follow
let failed = 0;

function firstContext() {
    const numbers = (line) => line.split(" ").slice(4).map(Number);
    const lines = readFileSync(`${tasks}/text.txt`, "utf8").split("\n");
    const query = lines.filter((l) => l.startsWith("query "))[1];
    return {
        tokens: numbers(lines.find((l) => l.startsWith("context "))).slice(0, CELLS),
        query: numbers(query)
    };
}

async function greedy(seq, prompt) {
    const out = [];
    for await (const t of seq.evaluate(prompt, {temperature: 0})) {
        out.push(t);
        if (out.length === CONTINUE)
            break;
    }
    return out.join();
}

async function save(seq, context, name) {
    await seq.evaluateWithoutGeneratingNewTokens(context.tokens);
    const follows = await greedy(seq, context.query);
    writeFileSync(`${copies}/${name}.json`, JSON.stringify(follows));
    await seq.clearHistory();
    if (await greedy(seq, context.query) === follows)
        throw new Error("without the context the same text follows: nothing is shown");
    await seq.clearHistory();
    await seq.evaluateWithoutGeneratingNewTokens(context.tokens);
    await seq.saveStateToFile(`${states}/${name}.bin`);
    await seq.saveStateToFile(`${copies}/${name}.bin`);
}

async function resume(seq, context, name) {
    await seq.loadStateFromFile(`${states}/${name}.bin`, {acceptRisk: true});
    const tokens = seq.contextTokens.join() === context.tokens.join();
    const follows = await greedy(seq, context.query);
    const same = follows === JSON.parse(readFileSync(`${copies}/${name}.json`, "utf8"));
    console.log(`${tokens && same ? "ok" : "FAIL"}: ${name}: ${tokens ? "" : "not the context's tokens, "}`
        + `${same ? "the same" : "another"} text follows`);
    failed += !(tokens && same);
}

const llama = await getLlama({gpu: false, build: "never", progressLogs: false,
    logLevel: LlamaLogLevel.error});
const model = await llama.loadModel({modelPath});
const context = firstContext();
for (const name of names) {
    const [type, trans] = name.split("-");
    const ctx = await model.createContext({contextSize: 1280, threads: 1, flashAttention: !trans,
        experimentalKvCacheKeyType: type.toUpperCase(), experimentalKvCacheValueType: type.toUpperCase()});
    await (mode === "save" ? save : resume)(ctx.getSequence(), context, name);
    await ctx.dispose();
}
await llama.dispose();
process.exit(failed ? 1 : 0);
