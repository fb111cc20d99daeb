// Makes a component of a JavaScript program:  node component.mjs SOURCE.js WORLD OUTPUT.wasm
import { componentize } from '@bytecodealliance/componentize-js';
import { writeFile } from 'node:fs/promises';

const [, , sourcePath, worldName, output] = process.argv;
const { component } = await componentize({ sourcePath, witPath: 'wit', worldName });
await writeFile(output, component);
