// New classes.

import { complain } from "./toast.js";

/** Creates one class by name; returns it.
 * @throws {ApiError} */
export async function createClass(project, name) {
  const [made] = await createClasses(project, [{ name }]);
  return made;
}

/** Creates classes `[{name, ...}]`; returns them as the server made them.
 * @throws {ApiError} */
export async function createClasses(project, classes) {
  try {
    const answer = await project.send("classes", { classes }, `create ${classes.length === 1 ? classes[0].name : `${classes.length} classes`}`);
    await project.loadClasses();
    return project.classes.filter((item) => answer.ids.includes(item.id));
  } catch (error) {
    complain(error);
    throw error;
  }
}
