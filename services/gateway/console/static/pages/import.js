import { empty } from '../components/states.js';
import { h } from '../dom.js';
export default () => h('div', null, h('h1', null, 'import'), empty('Not yet'));
